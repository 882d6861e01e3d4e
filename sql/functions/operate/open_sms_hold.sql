-- Sets a hold, or extends one that is set: nothing is sent in its scope until its time is up and a probe got an answer.
-- The key of a hold on a recipient may have any spelling that sms_number knows. A hold lasts for a hundred years at most.
create or replace function sms_retry.open_sms_hold(scope text, key text, wait interval, reason text) returns void
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    named text := coalesce(case when open_sms_hold.scope = 'recipient' then sms_number(open_sms_hold.key) end,
              open_sms_hold.key);
begin
    -- A key that no message has would hold nothing back. An earlier release may have stored impossible numbers.
    if (case open_sms_hold.scope
            when 'country' then named ~ '^[+][1-9][0-9]{0,14}$'
            when 'recipient' then named ~ '^[+]'
            else named <> ''
        end) is not true
    then
        raise exception 'nothing was stored: the key of a country must be the first digits of its numbers such as +44, of a '
            'recipient a phone number such as +14155550123, and of any other scope a name'
            using errcode = 'invalid_parameter_value';
    end if;

    insert into sms_holds (scope, key, until, wait, reason)
    select open_sms_hold.scope, named, now() + clamped.wait, clamped.wait, open_sms_hold.reason
    from (select case
        when open_sms_hold.wait > interval '100 years' then interval '100 years'
        when open_sms_hold.wait < interval '0' then interval '0'
        else open_sms_hold.wait
    end) clamped (wait)
    on conflict (scope, key) do update
        set until = greatest(sms_holds.until, excluded.until), wait = excluded.wait, reason = excluded.reason,
            probe_id = null, probe_attempt = null;
end
$$;

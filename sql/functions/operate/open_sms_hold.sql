-- Sets a hold, or extends one that is set: nothing is sent in its scope until its time is up and a probe got an answer.
-- The key of a hold on a recipient may have any spelling that sms_number knows. A hold lasts for a hundred years at most.
create or replace function sms_retry.open_sms_hold(scope text, key text, wait interval, reason text) returns void
language sql set search_path = sms_retry, pg_temp
as $$
    insert into sms_holds (scope, key, until, wait, reason)
    select open_sms_hold.scope,
        coalesce(case when open_sms_hold.scope = 'recipient' then sms_number(open_sms_hold.key) end, open_sms_hold.key),
        now() + clamped.wait, clamped.wait, open_sms_hold.reason
    from (select case
        when open_sms_hold.wait > interval '100 years' then interval '100 years'
        when open_sms_hold.wait < interval '0' then interval '0'
        else open_sms_hold.wait
    end) clamped (wait)
    on conflict (scope, key) do update
        set until = greatest(sms_holds.until, excluded.until), wait = excluded.wait, reason = excluded.reason,
            probe_id = null, probe_attempt = null;
$$;

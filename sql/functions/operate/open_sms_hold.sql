-- Sets a hold, or extends one that is set: nothing is sent in its scope until its time is up and a probe got an answer.
-- The key of a hold on a recipient may have any spelling that sms_number knows.
create or replace function sms_retry.open_sms_hold(scope text, key text, wait interval, reason text) returns void
language sql set search_path = sms_retry, pg_temp
as $$
    insert into sms_holds (scope, key, until, wait, reason)
    values (open_sms_hold.scope,
        coalesce(case when open_sms_hold.scope = 'recipient' then sms_number(open_sms_hold.key) end, open_sms_hold.key),
        now() + open_sms_hold.wait, open_sms_hold.wait, open_sms_hold.reason)
    on conflict (scope, key) do update
        set until = greatest(sms_holds.until, excluded.until), wait = excluded.wait, reason = excluded.reason,
            probe_id = null, probe_attempt = null;
$$;

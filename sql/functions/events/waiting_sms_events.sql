-- The number of events that no consumer has confirmed, and the age of the oldest in seconds.
create or replace function sms_retry.waiting_sms_events() returns table (waiting bigint, oldest_seconds int)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select count(*), coalesce(extract(epoch from now() - min(at))::int, 0) from sms_outbox;
$$;

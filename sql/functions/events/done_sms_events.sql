-- Confirms events: they are not returned again. Returns the number of events that were waiting.
create or replace function sms_retry.done_sms_events(ids bigint[]) returns int
language sql security definer set search_path = sms_retry, pg_temp
as $$
    with done as (
        delete from sms_outbox o where o.id = any (ids) returning 1
    )
    select count(*)::int from done;
$$;

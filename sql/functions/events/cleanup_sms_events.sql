-- Removes events that no consumer has confirmed within days_old days, at most 5,000 in one call. Returns how many were
-- removed: call it until it returns 0.
create or replace function sms_retry.cleanup_sms_events(days_old int default 7) returns int
language sql set search_path = sms_retry, pg_temp
as $$
    with old as materialized (
        select o.id from sms_outbox o
        where o.at < now() - make_interval(days => days_old) and (o.leased_until is null or o.leased_until <= now())
        order by o.id
        limit 5000
        for update skip locked
    ),
    removed as (
        delete from sms_outbox o using old where o.id = old.id returning 1
    )
    select count(*)::int from removed;
$$;

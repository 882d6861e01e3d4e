-- Leases at most limit_count events to the caller, the oldest first, for a day at most. No other consumer gets them until the lease is over.
-- An event that done_sms_events has not confirmed by then is returned again. An event waits for the earlier events of its
-- message, so that a consumer gets the endings of one message in order.
create or replace function sms_retry.take_sms_events(limit_count int = 100, lease interval = '1 minute')
returns table (
    id          bigint,
    type        text,
    at          timestamptz,
    message_id  bigint,
    message_key text,
    business_id text,
    batch       text,
    error_code  int,
    reason      text,
    detail      jsonb
)
language sql security definer set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    with locked as materialized (
        select o.id, o.message_id from sms_outbox o
        where (o.leased_until is null or o.leased_until <= now())
            and not exists (
                select from sms_outbox earlier
                where earlier.message_id = o.message_id and earlier.id < o.id and earlier.leased_until > now()
                offset 0)
        order by o.id
        limit greatest(limit_count, 0)
        for update skip locked
    ),
    taken as (
        update sms_outbox o set leased_until = now() + least(lease, interval '1 day')
        from locked l
        where o.id = any (array[l.id])
            -- Another consumer may hold the lock of an earlier event.
            and not exists (
                select from sms_outbox earlier
                where earlier.message_id = l.message_id and earlier.id < l.id
                    and not earlier.id in (select id from locked)
                offset 0)
        returning o.*
    )
    select t.id, t.type, t.at, t.message_id, t.message_key, t.business_id, t.batch, t.error_code, t.reason, t.detail
    from taken t
    order by t.id;
$$;

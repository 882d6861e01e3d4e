-- How well messages arrived in the last hour, by at most 1,000 of its receipts: the share of delivered ones among the last
-- receipts, and the seconds from acceptance within which 95 in a hundred were delivered. Null for fewer than twenty receipts.
create or replace function sms_retry.recent_sms_deliveries() returns table (delivery_rate numeric, slowest_seconds int)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select case when count(*) >= 20 then round(avg((e.status = 'delivered')::int), 4) end,
        case when count(*) filter (where e.status = 'delivered') >= 20 then
            (percentile_cont(0.95) within group (order by greatest(extract(epoch from e.received_at - a.at), 0))
                filter (where e.status = 'delivered'))::int end
    from (
        select message_sid, status, received_at from sms_delivery_events
        where received_at > now() - interval '1 hour' and status in ('delivered', 'undelivered', 'failed')
        limit 1000
    ) e
    join sms_attempts a on a.message_sid = e.message_sid;
$$;

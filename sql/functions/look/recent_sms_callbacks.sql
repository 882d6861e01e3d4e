-- Counts the delivery receipts of the last hour, up to 1,000, with the median of the seconds from acceptance to receipt
-- (null without a receipt).
create or replace function sms_retry.recent_sms_callbacks() returns table (callbacks bigint, lag_seconds int)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select count(*),
        (percentile_cont(0.5) within group (order by greatest(extract(epoch from e.received_at - a.at), 0))
            filter (where a.at is not null))::int
    from (
        select message_sid, received_at from sms_delivery_events
        where received_at > now() - interval '1 hour'
        limit 1000
    ) e
    left join sms_attempts a on a.message_sid = e.message_sid;
$$;

-- The health of the queue: messages that wait, are overdue, claimed, unknown and parked; the endings of the last day;
-- and the dead rows with the age of the snapshot that keeps them. It reads only indexes, and at most 10,000 waiting
-- rows: beyond that `pending` is the estimate of the last vacuum, and `due` and `overdue` stay at 10,000.
create or replace function sms_retry.sms_retry_health() returns jsonb
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    with first as materialized (
        select scheduled_for from sms_retry_queue where status = 'pending' order by scheduled_for, id limit 10001
    ),
    waiting as (
        select count(*) as n, count(*) > 10000 as is_estimate,
            count(*) filter (where scheduled_for <= now()) as due,
            count(*) filter (where scheduled_for <= now() - interval '2 minutes') as overdue,
            greatest(extract(epoch from now() - min(scheduled_for))::int, 0) as oldest_due_seconds
        from first
    ),
    claimed as (
        select count(*) as n, extract(epoch from now() - min(claimed_at))::int as oldest_seconds
        from sms_retry_queue where status = 'processing'
    ),
    -- One index has the rows with a text, and another has those without it.
    endings as materialized (
        select status, last_error_code, retry_count > 0 as was_retried, count(*) as n, sum(retry_count) as retries
        from sms_retry_queue
        where finished_at > now() - interval '1 day' and not body_erased
        group by 1, 2, 3
        union all
        select status, last_error_code, retry_count > 0, count(*), sum(retry_count)
        from sms_retry_queue
        where finished_at > now() - interval '1 day' and body_erased
        group by 1, 2, 3
    ),
    day as (
        select coalesce(sum(n) filter (where status = 'completed'), 0) as completed,
            coalesce(sum(n) filter (where status in ('failed', 'expired')), 0) as failed,
            coalesce(sum(n) filter (where status = 'completed' and was_retried), 0) as retried_completed,
            coalesce(sum(n) filter (where status in ('failed', 'expired') and was_retried), 0) as retried_failed,
            round(sum(retries) / sum(n), 4) as retries_per_message
        from endings
    ),
    errors as (
        select coalesce(last_error_code::text, 'none') as code, sum(n) as n from endings
        where status in ('failed', 'expired') group by 1
    )
    select jsonb_build_object(
        'pending', case when w.is_estimate then greatest(w.n, (
            select reltuples::bigint from pg_class where oid = 'sms_retry_queue_due'::regclass)) else w.n end,
        'pending_is_estimate', w.is_estimate,
        'due', least(w.due, 10000),
        'overdue', least(w.overdue, 10000),
        'oldest_due_seconds', coalesce(w.oldest_due_seconds, 0),
        'processing', c.n,
        'oldest_claim_seconds', coalesce(c.oldest_seconds, 0),
        'unknown', (select count(*) from sms_retry_queue where status = 'unknown' and finished_at is null),
        'held_unknowns', (select count(*) from held_sms()),
        'holds', (select count(*) from sms_holds),
        'completed_last_day', completed,
        'failed_last_day', failed,
        'success_rate', round(completed / nullif(completed + failed, 0), 4),
        'retry_success_rate', round(retried_completed / nullif(retried_completed + retried_failed, 0), 4),
        'retries_per_message', retries_per_message,
        'ended_last_day', coalesce((
            select jsonb_object_agg(status, n) from (select status, sum(n) as n from endings group by 1) e), '{}'),
        'errors_last_day', coalesce((select jsonb_object_agg(code, n) from errors), '{}'),
        'sent_last_hour', (
            select count(*) from sms_retry_queue
            where finished_at > now() - interval '1 hour' and status = 'completed' and not body_erased) + (
            select count(*) from sms_retry_queue
            where finished_at > now() - interval '1 hour' and status = 'completed' and body_erased),
        'callbacks_last_hour', r.callbacks,
        'callback_lag_seconds', r.lag_seconds,
        'delivery_rate', d.delivery_rate,
        'delivery_seconds', d.slowest_seconds,
        'dead_tuples', pg_stat_get_dead_tuples('sms_retry_queue'::regclass),
        'oldest_snapshot_seconds', oldest_snapshot_seconds())
    from waiting w, claimed c, day, recent_sms_callbacks() r, recent_sms_deliveries() d;
$$;

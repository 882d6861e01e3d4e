-- How the queue is: what waits and how long past due, what is claimed, unknown and held, and how the last day's sends ended.
create or replace function sms_retry.sms_retry_health() returns jsonb
language sql stable set search_path = sms_retry, pg_temp
as $$
    with ended as (
        select status, count(*) as n from sms_retry_queue
        where finished_at > now() - interval '1 day'
        group by status
    ),
    day as (
        select coalesce(sum(n) filter (where status = 'completed'), 0) as completed,
            coalesce(sum(n) filter (where status in ('failed', 'expired')), 0) as failed
        from ended
    )
    select jsonb_build_object(
        'pending', (select count(*) from sms_retry_queue where status = 'pending'),
        'due', (select count(*) from sms_retry_queue where status = 'pending' and scheduled_for <= now()),
        'oldest_due_seconds', coalesce((
            select extract(epoch from now() - min(scheduled_for))::int from sms_retry_queue
            where status = 'pending' and scheduled_for <= now()), 0),
        'processing', (select count(*) from sms_retry_queue where status = 'processing'),
        'oldest_claim_seconds', coalesce((
            select extract(epoch from now() - min(claimed_at))::int from sms_retry_queue where status = 'processing'), 0),
        'unknown', (select count(*) from sms_retry_queue where status = 'unknown' and finished_at is null),
        'holds', (select count(*) from sms_holds),
        'completed_last_day', completed,
        'failed_last_day', failed,
        'success_rate', case when completed + failed > 0 then round(completed / (completed + failed), 4) end)
    from day;
$$;

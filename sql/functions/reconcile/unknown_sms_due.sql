-- The unknown messages that Twilio is to be asked about now; each is asked about again later, the older the later.
create or replace function sms_retry.unknown_sms_due(limit_count int default 100)
returns table (id bigint, attempt int, to_number text, body text, claimed_at timestamptz)
language sql set search_path = sms_retry, pg_temp
set enable_seqscan = off set enable_sort = off set jit = off
as $$
    with due as materialized (
        select id from sms_retry_queue
        where status = 'unknown' and finished_at is null and scheduled_for <= now()
        order by scheduled_for
        limit limit_count
        for update skip locked
    ),
    asked as (
        update sms_retry_queue q
        -- And once more when the 72 hours of a held one are over.
        set scheduled_for = least(
            now() + greatest(interval '5 minutes', (now() - q.claimed_at) / 8),
            greatest(now() + interval '5 minutes', q.claimed_at + interval '72 hours'))
        from due where q.id = due.id
        returning q.id, q.attempt, q.message_id, q.claimed_at
    )
    select a.id, a.attempt, m.to_number, m.body, a.claimed_at
    from asked a join sms_messages m on m.id = a.message_id;
$$;

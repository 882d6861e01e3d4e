-- Returns unknown messages that are due for a question to Twilio. The next question comes later the older the claim is.
-- After a restore, claimed_at is the time since when the message may have been sent.
create or replace function sms_retry.unknown_sms_due(limit_count int default 100)
returns table (id bigint, attempt int, to_number text, body text, claimed_at timestamptz)
language sql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
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
        -- One question is due when the 72 hours of a parked message are over: then decide_unknown_sms ends it.
        set scheduled_for = least(
            now() + greatest(interval '5 minutes', (now() - q.claimed_at) / 8),
            greatest(now() + interval '5 minutes', q.claimed_at + interval '72 hours'))
        from due where q.id = due.id
        returning q.id, q.attempt, q.message_id, coalesce(q.doubted_since, q.claimed_at) as since
    )
    select a.id, a.attempt, m.to_number, m.body, a.since
    from asked a join sms_messages m on m.id = a.message_id;
$$;

-- The history of one message in order: when it was queued, each attempt with its outcome, each receipt, and the next
-- due time with its reason.
create or replace function sms_retry.sms_message_story(message_id bigint)
returns table (at timestamptz, what text, ticket text, message_sid text, error_code int, detail text)
language sql stable set search_path = sms_retry, pg_temp
as $$
    with message as (
        select m.id, m.created_at, q.id as queue_id, q.status, q.scheduled_for, q.reason
        from sms_messages m left join sms_retry_queue q on q.message_id = m.id
        where m.id = sms_message_story.message_id
    )
    select created_at, 'taken in', null, null, null::int, null from message
    union all
    select a.at, a.outcome, a.queue_id || '-' || a.attempt, a.message_sid, a.error_code, a.error_message
    from message join sms_attempts a using (queue_id)
    union all
    select e.received_at, e.status, e.ticket, e.message_sid, e.error_code, null
    from message join sms_attempts a using (queue_id) join sms_delivery_events e using (message_sid)
    union all
    select scheduled_for, 'due', null, null, null, reason from message where status = 'pending'
    order by 1;
$$;

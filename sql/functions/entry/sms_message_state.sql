-- The state of one message, for the application that queued it.
create or replace function sms_retry.sms_message_state(message_id bigint)
returns table (message_id bigint, status text, provider_sid text, next_attempt_at timestamptz, error_code int)
language sql stable security definer set search_path = sms_retry, pg_temp
as $$
    select m.id, m.status, m.provider_sid, case when q.status = 'pending' then q.scheduled_for end, m.error_code
    from sms_messages m left join sms_retry_queue q on q.message_id = m.id
    where m.id = sms_message_state.message_id;
$$;

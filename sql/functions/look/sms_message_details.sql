-- Everything about one message except its text; the phone number is masked.
create or replace function sms_retry.sms_message_details(message_id bigint)
returns table (
    message_id    bigint,
    message_key   text,
    business_id   text,
    kind          text,
    number        text,
    body_length   int,
    on_unknown    text,
    time_zone     text,
    created_at    timestamptz,
    expires_at    timestamptz,
    status        text,
    provider_sid  text,
    error_code    int,
    error_message text,
    retry_count   int,
    max_retries   int,
    queue_status  text,
    at            timestamptz,
    ended         boolean,
    reason        text,
    attempt       int
)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select m.id, m.message_key, m.business_id, m.kind, masked_sms_number(m.to_number), char_length(m.body), m.on_unknown,
        m.time_zone, m.created_at, m.expires_at, m.status, m.provider_sid, m.error_code, m.error_message, m.retry_count,
        q.max_retries, q.status, coalesce(q.finished_at, q.claimed_at, q.scheduled_for, m.updated_at),
        q.id is null or q.finished_at is not null, q.reason, q.attempt
    from sms_messages m left join sms_retry_queue q on q.message_id = m.id
    where m.id = sms_message_details.message_id;
$$;

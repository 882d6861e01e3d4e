-- Returns unknown messages that are due for a question to Twilio, as unknown_sms_due, which release 0.1 calls. Four columns
-- more: whether the answer may decide about the message, the time of the database's clock, the number of its media files,
-- and its content template.
create or replace function sms_retry.unknown_sms_to_ask(limit_count int default 100)
returns table (
    id bigint, attempt int, to_number text, body text, claimed_at timestamptz, has_waited boolean, asked_at timestamptz,
    media int, content_sid text
)
language sql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select due.id, due.attempt, due.to_number, due.body, due.claimed_at,
        sms_unknown_has_waited(q.claimed_at), clock_timestamp(), coalesce(cardinality(m.media_urls), 0),
        m.content_sid
    from unknown_sms_due(limit_count) due
    join sms_retry_queue q on q.id = any (array[due.id])
    join sms_messages m on m.id = any (array[q.message_id]);
$$;

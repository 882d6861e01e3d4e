-- After a restore to an earlier time: makes each message unknown that may have been sent since then, so that Twilio is
-- asked before it is sent. Returns the number of these messages. They are the due, the claimed and the unknown ones, and those
-- that wait for a hold or a budget, which may have been cleared or raised.
--   claimed_at      is now, so that 30 minutes pass before Twilio's list decides
--   doubted_since   is the start of the search in Twilio's list
--   attempt         of a due message is that of the claim that may be lost: each ticket before it has its outcome
--   max_retries     a due message that was not sent has as many retries as before: the decision to send it spends one
-- A message that Twilio had accepted stays `sent`. If a receipt then reports a failure, settle_sms_reports makes the
-- message unknown too, because the lost database may have sent it again.
create or replace function sms_retry.doubt_sms_since(since timestamptz) returns int
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    ids     bigint[];
    doubted int;
begin
    -- Python cannot compute with instants near the year 1, and nothing was sent before 2000.
    since := greatest(since, '2000-01-01 00:00+00');
    if since is null or since > now() then
        raise exception 'since must be an instant in the past' using errcode = 'invalid_parameter_value';
    end if;

    select array_agg(l.id) into ids from (
        select q.id from sms_retry_queue q
        where q.status in ('processing', 'unknown') and q.finished_at is null
            or q.status = 'pending' and (q.scheduled_for <= now() or q.reason in ('hold', 'budget'))
            or q.status = 'completed'
                and exists (select from sms_messages m where m.id = q.message_id and m.status = 'sent')
        order by q.id
        for update
    ) l;

    update sms_retry_queue q set doubted_since = least(since, q.doubted_since)
    where q.id = any (ids) and q.status = 'completed';

    with doubt as (
        update sms_retry_queue q
        set status = 'unknown', claimed_at = now(), scheduled_for = now(),
            doubted_since = least(since, q.doubted_since, q.claimed_at),
            attempt = q.attempt + (q.status = 'pending')::int,
            max_retries = q.max_retries + (q.status = 'pending')::int,
            reason = case when q.status = 'unknown' then q.reason else 'restored' end
        where q.id = any (ids) and q.status <> 'completed'
        returning q.id, q.attempt, q.message_id
    ),
    attempted as (
        insert into sms_attempts (queue_id, attempt, outcome, error_message)
        select d.id, d.attempt, 'unknown', 'the database was restored to an earlier time' from doubt d
        on conflict do nothing
    ),
    message as (
        update sms_messages m set status = 'unknown', updated_at = now()
        from doubt d
        where m.id = d.message_id and m.status = 'queued'
    )
    select count(*) into doubted from doubt;
    return doubted;
end
$$;

-- The short way of nearly every send: records that Twilio accepted these messages, if their claims are still open. It
-- leaves every other acceptance to settle_sms_reports, and comes to the same result.
create or replace function sms_retry.accept_sms_claims(
    ids           bigint[],
    attempts      int[],
    message_sids  text[],
    http_statuses int[],
    request_ids   text[]
) returns table (id bigint, attempt int, message_id bigint, status text, scheduled_for timestamptz)
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
begin
    return query
    with reports as materialized (
        select t.*
        from unnest(ids, attempts, message_sids, http_statuses, request_ids)
            as t (id, attempt, sid, http_status, request_id)
        -- Every function that locks several queue rows locks them in this order, so that no two deadlock.
        order by t.id
    ),
    queue as (
        update sms_retry_queue q
        set status = 'completed', claimed_at = null, finished_at = now(),
            reason = case when sms_resend_forbidden(q.reason) then q.reason end
        from reports t
        where q.id = any (array[t.id]) and q.attempt = t.attempt and q.claimed_at is not null
        returning q.id, q.attempt, q.message_id, q.status, q.scheduled_for, t.sid, t.http_status, t.request_id
    ),
    attempted as (
        insert into sms_attempts (queue_id, attempt, outcome, message_sid, http_status, twilio_request_id)
        select q.id, q.attempt, 'accepted', q.sid, q.http_status, q.request_id from queue q
        on conflict do nothing
    ),
    probed as (
        -- A hold that a receipt set stays: its probe is accepted like every message that fails afterwards.
        delete from sms_holds h using queue q where h.probe_id = q.id and h.probe_attempt = q.attempt
            and h.cleared_by = 'answer'
    ),
    message as (
        update sms_messages m
        set status = case when m.status = 'delivered' then m.status else 'sent' end,
            provider_sid = q.sid, error_code = null, error_message = null,
            -- Twilio is asked about such a probe before the next one is due, in case its receipt is lost.
            ask_at = now() + least(interval '1 hour', (
                select min(h.wait) / 2 from sms_holds h
                where (h.probe_id, h.probe_attempt) = (q.id, q.attempt) and h.cleared_by = 'receipt')),
            sent_at = now(), updated_at = now()
        from queue q
        where m.id = any (array[q.message_id])
    )
    select q.id, q.attempt, q.message_id, q.status, q.scheduled_for from queue q;
end
$$;

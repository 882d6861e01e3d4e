-- Records the outcomes of claimed messages, each under its ticket (id, attempt), and decides what follows. The rules
-- are sms_report_is_believed, sms_next_try and sms_status_after. A stale report changes nothing. Returns the tickets
-- of the rows that changed.
--   outcomes   accepted, refused, unknown                  outcomes of a POST
--              deferred, expired, opted_out, not_sent      nothing was sent: not now, or never (not_sent: by its reason)
--              delivered, undelivered, failed, canceled    Twilio's final status of a message that it accepted
--   delays     the waits that a failure is granted, as an interval[] literal: after the first failure, the second ...;
--              without one the failure is final. Only the first wait counts for a failure that spends no retry, and for a
--              deferral: it begins at the claim
create or replace function sms_retry.finish_sms_retries(
    ids            bigint[],
    attempts       int[],
    outcomes       text[],
    message_sids   text[] = null,
    error_codes    int[] = null,
    error_messages text[] = null,
    http_statuses  int[] = null,
    request_ids    text[] = null,
    delays         text[] = null,
    spends         boolean[] = null,
    reasons        text[] = null
) returns table (id bigint, attempt int, message_id bigint, status text, scheduled_for timestamptz)
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    settled   int := 0;
    has_holds boolean := exists (select from sms_holds);
begin
    if 'accepted' = all (outcomes) then
        -- The short way of nearly every send. It leaves other acceptances to settle_sms_reports, and comes to the same result.
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
            on conflict (queue_id, attempt, outcome) do nothing
        ),
        probed as (
            -- A hold that a receipt set stays: its probe is accepted like every message that fails afterwards.
            delete from sms_holds h using queue q
            where has_holds and h.probe_id = q.id and h.probe_attempt = q.attempt and h.cleared_by = 'answer'
        ),
        message as (
            update sms_messages m
            set status = case when m.status = 'delivered' then m.status else 'sent' end,
                provider_sid = q.sid, error_code = null, error_message = null,
                -- Twilio is asked about such a probe before the next one is due, in case its receipt is lost.
                ask_at = now() + least(interval '1 hour', case when has_holds then (
                    select min(h.wait) / 2 from sms_holds h
                    where (h.probe_id, h.probe_attempt) = (q.id, q.attempt) and h.cleared_by = 'receipt') end),
                sent_at = now(), updated_at = now()
            from queue q
            where m.id = any (array[q.message_id])
            returning m.business_id, m.sender, m.to_number, m.kind, sms_billed_segments(m.segments, m.body) as segments
        ),
        counted as (
            insert into sms_usage (day, business_id, sender, country, kind, outcome, messages, segments)
            select date_trunc('day', now(), 'UTC'), m.business_id, coalesce(m.sender, '*'), sms_country(m.to_number), m.kind,
                'accepted', count(*), sum(m.segments)
            from message m group by 2, 3, 4, 5
        )
        select q.id, q.attempt, q.message_id, q.status, q.scheduled_for from queue q;
        get diagnostics settled = row_count;
    end if;
    if settled < cardinality(ids) then
        return query select * from settle_sms_reports(ids, attempts, outcomes, message_sids, error_codes, error_messages,
            http_statuses, request_ids, delays, spends, reasons);
    end if;
    if 'opted_out' = any (reasons) then
        perform opt_out_sms_refusers(ids, outcomes, reasons);
    end if;
    if exists (select from sms_delivery_events e where e.message_sid = any (message_sids)) then
        perform settle_early_sms_receipts(outcomes, message_sids);
    end if;
end
$$;

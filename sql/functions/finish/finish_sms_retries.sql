-- Writes down what became of claimed messages, each under its ticket (id, attempt), and decides what follows: the only
-- place that knows when the retries are spent. Old news changes nothing; what is returned are the tickets that did.
--   outcomes   accepted, refused, unknown       what came of a POST
--              deferred, expired, opted_out     there was none: not now, or never
--              delivered, undelivered, failed, canceled   what Twilio says of a message that it has accepted
--   delays     the waits a failure is granted, each an interval[] literal: after the first failure, the second ...; none
--              is final. Where it spends no retry only the first counts; a deferral's counts from the claim
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
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    settled int := 0;
begin
    if 'accepted' = all (outcomes) then
        return query select * from accept_sms_claims(ids, attempts, message_sids, http_statuses, request_ids);
        get diagnostics settled = row_count;
    end if;
    if settled < cardinality(ids) then
        return query select * from settle_sms_reports(ids, attempts, outcomes, message_sids, error_codes, error_messages,
            http_statuses, request_ids, delays, spends, reasons);
    end if;

    if 'opted_out' = any (reasons) then
        perform set_sms_consent('*', stop.to_number, 'opted_out')
        from (
            select distinct m.to_number
            from unnest(ids, outcomes, reasons) as t (id, outcome, reason)
            join sms_retry_queue q on q.id = t.id
            join sms_messages m on m.id = q.message_id
            where t.reason = 'opted_out' and t.outcome in ('refused', 'undelivered', 'failed')
        ) stop;
    end if;

    -- Callbacks that came before anybody knew whose SID it was.
    if exists (select from sms_delivery_events e where e.message_sid = any (message_sids)) then
        perform settle_sms_receipt(a.queue_id, a.attempt, e)
        from unnest(outcomes, message_sids) as t (outcome, sid)
        cross join lateral (select e from sms_delivery_events e where e.message_sid = t.sid offset 0) early (e)
        cross join lateral (select a.queue_id, a.attempt from sms_attempts a where a.message_sid = t.sid offset 0) a
        where t.outcome = 'accepted' and sms_receipt_outcome((e).status) <> 'accepted'
            or t.outcome in ('undelivered', 'failed', 'canceled') and sms_receipt_outcome((e).status) = 'delivered'
        order by (e).received_at;
    end if;
end
$$;

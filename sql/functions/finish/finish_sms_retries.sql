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
        perform opt_out_sms_refusers(ids, outcomes, reasons);
    end if;
    if exists (select from sms_delivery_events e where e.message_sid = any (message_sids)) then
        perform settle_early_sms_receipts(outcomes, message_sids);
    end if;
end
$$;

-- Settles the receipts that came before their attempt was known by its SID, in the order of their arrival: after an
-- acceptance every final receipt, after a failure a delivery.
create or replace function sms_retry.settle_early_sms_receipts(outcomes text[], message_sids text[]) returns void
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
    perform settle_sms_receipt(a.queue_id, a.attempt, e)
    from unnest(outcomes, message_sids) as t (outcome, sid)
    cross join lateral (select e from sms_delivery_events e where e.message_sid = t.sid offset 0) early (e)
    cross join lateral (select a.queue_id, a.attempt from sms_attempts a where a.message_sid = t.sid offset 0) a
    where t.outcome = 'accepted' and sms_receipt_outcome((e).status) <> 'accepted'
        or t.outcome in ('undelivered', 'failed', 'canceled') and sms_receipt_outcome((e).status) = 'delivered'
    order by (e).received_at;
end
$$;

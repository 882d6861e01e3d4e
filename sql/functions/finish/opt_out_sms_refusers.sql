-- Opts out the people of reports with the reason opted_out: Twilio says that they sent a stop to the sender. It concerns the
-- businesses of the sender, or every business. A stale report opts no person out.
create or replace function sms_retry.opt_out_sms_refusers(ids bigint[], outcomes text[], reasons text[]) returns void
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
    perform stop_sms_recipient(business, stop.to_number)
    from (
        select distinct m.to_number, coalesce(m.sender, '*') as sender
        from unnest(ids, outcomes, reasons) as t (id, outcome, reason)
        join sms_retry_queue q on q.id = t.id
        join sms_messages m on m.id = q.message_id
        where m.updated_at = now() -- this transaction believed the report
            and t.reason = 'opted_out' and t.outcome in ('refused', 'undelivered', 'failed')
            -- No consent is stored for an impossible number, which an earlier release may have stored.
            and sms_number(m.to_number) is not null
    ) stop
    cross join lateral sms_businesses_of(array[stop.sender], stop.to_number) business;
end
$$;

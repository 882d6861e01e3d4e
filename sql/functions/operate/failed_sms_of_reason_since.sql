-- Counts the messages that failed for this reason from `since` on, and returns the instant of the count. It counts those
-- that requeue_sms_of_reason finds, and those that have expired.
create or replace function sms_retry.failed_sms_of_reason_since(reason text, since timestamptz)
returns table (failed bigint, until timestamptz)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
    select count(*), now() from sms_retry_queue q
    where q.status = 'failed' and not q.body_erased and q.reason = failed_sms_of_reason_since.reason
        and q.reason <> 'called_off'
        and q.finished_at >= since and q.finished_at < now();
$$;

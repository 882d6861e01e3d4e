-- Counts the messages that failed with this code (null: without one) from `since` on, and returns the instant of the
-- count. It counts those that requeue_failed_sms finds, and those that have expired.
create or replace function sms_retry.failed_sms_since(error_code int, since timestamptz)
returns table (failed bigint, until timestamptz)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
    select count(*), now() from sms_retry_queue q
    where q.status = 'failed' and not q.body_erased
        and q.last_error_code is not distinct from failed_sms_since.error_code and q.reason is distinct from 'called_off'
        and (failed_sms_since.error_code is not null or q.reason is distinct from 'opted_out')
        and q.finished_at >= since and q.finished_at < now();
$$;

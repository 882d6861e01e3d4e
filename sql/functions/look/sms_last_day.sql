-- Counts the messages that ended in the last 24 clock hours by hour, status and code.
create or replace function sms_retry.sms_last_day()
returns table (hour timestamptz, status text, error_code int, messages bigint)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
    -- One index has the rows with a text, and another has those without it.
    select date_trunc('hour', finished_at), status, last_error_code, count(*)
    from (
        select finished_at, status, last_error_code from sms_retry_queue
        where finished_at >= date_trunc('hour', now()) - interval '23 hours' and not body_erased
        union all
        select finished_at, status, last_error_code from sms_retry_queue
        where finished_at >= date_trunc('hour', now()) - interval '23 hours' and body_erased
    ) endings
    group by 1, 2, 3;
$$;

-- Counts the due messages, up to limit_count.
create or replace function sms_retry.count_due_sms(limit_count int) returns int
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_sort = off set jit = off
as $$
    select count(*) from (
        select from sms_retry_queue where status = 'pending' and scheduled_for <= now() limit limit_count
    ) due;
$$;

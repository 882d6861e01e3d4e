-- Counts the next 1,000 waiting messages by the reason of their wait, with the first due time of each reason.
create or replace function sms_retry.sms_waiting_for() returns table (reason text, messages bigint, first_due timestamptz)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
    select reason, count(*), min(scheduled_for)
    from (
        select reason, scheduled_for from sms_retry_queue where status = 'pending' order by scheduled_for, id limit 1000
    ) next
    group by 1
    order by 2 desc;
$$;

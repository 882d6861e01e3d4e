-- Lists the waiting messages, the longest due first, one page at a time: a page starts after the row (after, after_id).
create or replace function sms_retry.waiting_sms(after timestamptz, after_id bigint, limit_count int) returns setof bigint
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
    select message_id from sms_retry_queue
    where status = 'pending' and (scheduled_for, id) > (after, after_id)
    order by scheduled_for, id
    limit limit_count;
$$;

-- Lists the messages of a batch, the newest first, one page at a time: a page ends before the message before_id.
create or replace function sms_retry.sms_of_batch(batch text, before_id bigint, limit_count int) returns setof bigint
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
    select m.id from sms_messages m
    where m.batch = sms_of_batch.batch and m.id < before_id
    order by m.id desc
    limit limit_count;
$$;

-- Counts the messages of a batch by status.
create or replace function sms_retry.sms_batch(batch text) returns table (status text, messages bigint)
language sql stable security definer set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off
as $$
    select m.status, count(*) from sms_messages m where m.batch = sms_batch.batch group by m.status order by m.status;
$$;

-- Removes what ended longer ago than days_old: the queue's rows with their attempts and callbacks, at most 5,000 in one
-- call. The log keeps the messages. Says how many went; fewer than 5,000 means that nothing is left to do.
create or replace function sms_retry.cleanup_sms_retries(days_old int default 7) returns int
language plpgsql set search_path = sms_retry, pg_temp
set enable_seqscan = off set jit = off
as $$
declare
    removed int;
begin
    with ended as materialized (
        select id from sms_retry_queue
        where finished_at < now() - make_interval(days => days_old)
        order by finished_at
        limit 5000
        for update skip locked
    ),
    attempts as (
        delete from sms_attempts a using ended where a.queue_id = ended.id returning a.message_sid
    ),
    events as (
        delete from sms_delivery_events e using attempts a where e.message_sid = a.message_sid
    ),
    queue as (
        delete from sms_retry_queue q using ended where q.id = ended.id returning 1
    )
    select count(*) into removed from queue;
    return removed;
end
$$;

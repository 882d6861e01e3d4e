-- Removes what ended longer ago than days_old, at most 5,000 messages in one call: the queue's rows with their attempts
-- and callbacks, and as many callbacks that nobody ever knew. The log keeps the messages. Says how much went; 0 is all.
create or replace function sms_retry.cleanup_sms_retries(days_old int default 7) returns int
language plpgsql set search_path = sms_retry, pg_temp
set enable_seqscan = off set jit = off
as $$
declare
    removed int;
    unheard int;
begin
    with old as materialized (
        select e.message_sid, e.status, e.error_code from sms_delivery_events e
        where e.received_at < now() - make_interval(days => days_old)
            and not exists (select from sms_attempts a where a.message_sid = e.message_sid)
        limit 5000
        for update skip locked
    )
    delete from sms_delivery_events e using old
    where e.message_sid = old.message_sid and e.status = old.status and e.error_code is not distinct from old.error_code;
    get diagnostics unheard = row_count;

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
    return removed + unheard;
end
$$;

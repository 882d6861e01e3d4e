-- Removes queue rows that ended more than days_old days ago, with their attempts and receipts: at most 5,000 with an
-- erased text and, unless only_erased, 5,000 with their text. Once no such row is left, it removes old receipts that no
-- attempt owns. sms_messages keeps the messages. Returns how many rows were removed: call it until it returns 0.
create or replace function sms_retry.cleanup_sms_retries(days_old int default 7, only_erased boolean default false)
returns int
language plpgsql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    before  timestamptz := now() - make_interval(days => days_old);
    removed int;
begin
    with erased as materialized (
        select id from sms_retry_queue where finished_at < before and body_erased limit 5000 for update skip locked
    ),
    whole as materialized (
        select id from sms_retry_queue where finished_at < before and not body_erased and not only_erased
        limit 5000
        for update skip locked
    ),
    ended as (
        select id from erased union all select id from whole
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
    if removed > 0 then
        return removed;
    end if;

    -- The person of such a hold got no message since: the hold holds nothing back.
    delete from sms_holds where scope = 'recipient' and until < now() - interval '1 day';

    -- Comes last, when few old receipts are left that an attempt owns and that this scan would have to skip.
    with old as materialized (
        select e.message_sid, e.status, e.error_code from sms_delivery_events e
        where e.received_at < before and not exists (select from sms_attempts a where a.message_sid = e.message_sid)
        limit 5000
        for update skip locked
    )
    delete from sms_delivery_events e using old
    where e.message_sid = old.message_sid and e.status = old.status and e.error_code is not distinct from old.error_code;
    get diagnostics removed = row_count;
    return removed;
end
$$;

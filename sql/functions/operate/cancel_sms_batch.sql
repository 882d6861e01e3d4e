-- Cancels a batch: each waiting message ends as cancelled, and no other message of the batch is sent again. With limit_count
-- at most so many messages end in one call: call it until it returns 0. Returns how many ended. The last call waits for the
-- transactions that are changing messages of the batch.
create or replace function sms_retry.cancel_sms_batch(batch text, limit_count int = null) returns int
language plpgsql security definer set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    ended int;
begin
    -- Between the two updates no claim and no report may change a row, so the rows of the last call are locked first.
    if (select count(*) from (
            select from sms_messages m join sms_retry_queue q on q.message_id = m.id
            where m.batch = cancel_sms_batch.batch and m.status = 'queued' and q.status = 'pending'
            limit cancel_sms_batch.limit_count) waiting) < cancel_sms_batch.limit_count is not false
    then
        perform from sms_messages m join sms_retry_queue q on q.message_id = m.id
        where m.batch = cancel_sms_batch.batch and m.status in ('queued', 'unknown', 'sent', 'failed', 'undelivered')
            and q.reason is distinct from 'called_off'
        order by q.id
        for update of q;
    end if;

    with theirs as materialized (
        select q.id
        from sms_messages m join sms_retry_queue q on q.message_id = m.id
        where m.batch = cancel_sms_batch.batch and m.status = 'queued' and q.status = 'pending'
        order by m.id
        limit cancel_sms_batch.limit_count
        for update of q skip locked
    ),
    cancelled as (
        update sms_retry_queue q set status = 'cancelled', reason = 'called_off', finished_at = now()
        from theirs where q.id = any (array[theirs.id])
        returning q.message_id
    ),
    messages as (
        update sms_messages m set status = 'cancelled', updated_at = now()
        from cancelled where m.id = any (array[cancelled.message_id])
        returning m.*
    ),
    events as (
        insert into sms_outbox (type, message_id, message_key, business_id, batch, error_code, reason)
        select m.status, m.id, m.message_key, m.business_id, m.batch, m.error_code, 'called_off'
        from messages m where m.status in (select e.type from sms_event_types e)
    )
    select count(*) into ended from messages;

    if ended >= cancel_sms_batch.limit_count then
        return ended;
    end if;
    -- A worker, an answer or a receipt may still report that one of these failed, and a failed one may be requeued by its
    -- code. Release 0.1 reads max_retries only.
    with theirs as materialized (
        select q.id
        from sms_messages m join sms_retry_queue q on q.message_id = m.id
        where m.batch = cancel_sms_batch.batch and m.status in ('queued', 'unknown', 'sent', 'failed', 'undelivered')
            and (q.status in ('processing', 'unknown', 'failed') or q.status = 'completed' and m.status = 'sent')
            and q.reason is distinct from 'called_off'
        order by q.id
        for update of q skip locked
    )
    update sms_retry_queue q set reason = 'called_off', max_retries = q.retry_count
    from theirs where q.id = any (array[theirs.id]);
    return ended;
end
$$;

-- Calls a message off: a waiting one ends as cancelled, and one that is being sent, was sent or may have been sent is not sent
-- again. Returns the message's status.
create or replace function sms_retry.cancel_sms_retry(message_id bigint) returns text
language plpgsql security definer set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    cancelled boolean;
begin
    -- Waits for a transaction that is changing the row: an unknown message that it releases is waiting then.
    perform from sms_retry_queue q where q.message_id = cancel_sms_retry.message_id for update;

    update sms_retry_queue q set status = 'cancelled', reason = 'called_off', finished_at = now()
    where q.message_id = cancel_sms_retry.message_id and q.status = 'pending';
    cancelled := found;

    -- Release 0.1, which may run again after a rollback, does not read the reason, but does read that no retry is left.
    update sms_retry_queue q set reason = 'called_off', max_retries = q.retry_count
    from sms_messages m
    where q.message_id = cancel_sms_retry.message_id and m.id = q.message_id
        and (q.status in ('processing', 'unknown', 'failed') or q.status = 'completed' and m.status = 'sent');

    with message as (
        update sms_messages m set status = 'cancelled', updated_at = now()
        where m.id = cancel_sms_retry.message_id and cancelled
        returning m.*
    )
    insert into sms_outbox (type, message_id, message_key, business_id, batch, error_code, reason)
    select m.status, m.id, m.message_key, m.business_id, m.batch, m.error_code, 'called_off'
    from message m where m.status in (select e.type from sms_event_types e);
    return (select m.status from sms_messages m where m.id = cancel_sms_retry.message_id);
end
$$;

-- Calls a message off: one that waits ends as cancelled; one that may have been sent is not sent again. Gives its status.
create or replace function sms_retry.cancel_sms_retry(message_id bigint) returns text
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    cancelled boolean;
begin
    -- Whoever is about to change the row comes first: an unknown one that is being released waits again by now.
    perform from sms_retry_queue q where q.message_id = cancel_sms_retry.message_id for update;

    update sms_retry_queue q set status = 'cancelled', reason = 'called_off', finished_at = now()
    where q.message_id = cancel_sms_retry.message_id and q.status = 'pending';
    cancelled := found;

    update sms_retry_queue q set reason = 'called_off'
    where q.message_id = cancel_sms_retry.message_id and q.status = 'unknown';

    update sms_messages m
    set status = case when cancelled then 'cancelled' else m.status end, on_unknown = 'hold', updated_at = now()
    where m.id = cancel_sms_retry.message_id and (cancelled or m.status = 'unknown');
    return (select m.status from sms_messages m where m.id = cancel_sms_retry.message_id);
end
$$;

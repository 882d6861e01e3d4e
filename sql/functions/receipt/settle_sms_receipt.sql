-- Tells the message behind a ticket what one callback says of it.
create or replace function sms_retry.settle_sms_receipt(queue_id bigint, attempt int, event sms_retry.sms_delivery_events)
returns boolean
language sql set search_path = sms_retry, pg_temp
as $$
    select exists (
        select from finish_sms_retries(
            array[queue_id],
            array[attempt],
            array[sms_receipt_outcome(event.status)],
            message_sids => array[event.message_sid],
            error_codes => array[event.error_code],
            delays => array[event.delays::text],
            spends => array[event.spends],
            reasons => array[event.reason]));
$$;

-- Whether this delivery receipt was recorded before.
create or replace function sms_retry.sms_receipt_is_known(message_sid text, status text, error_code int) returns boolean
language sql stable set search_path = sms_retry, pg_temp
as $$
    select exists (
        select from sms_delivery_events e
        where e.message_sid = sms_receipt_is_known.message_sid and e.status = sms_receipt_is_known.status
            and e.error_code is not distinct from sms_receipt_is_known.error_code);
$$;

-- Whether a receipt whose To is told_to may be about a message to this number.
create or replace function sms_retry.sms_receipt_is_for(to_number text, told_to text) returns boolean
language sql stable
as $$
    select case
        -- The receipt has no To.
        when coalesce(told_to, '') = '' then true
        -- Message Redaction masks the last digits: https://www.twilio.com/docs/messaging/guides/privacy-message-redaction
        when told_to ilike '%xxxx' then true
        -- Both spellings, because release 0.1 stored a number as it was given.
        else to_number = told_to or sms_retry.sms_number(to_number) = sms_retry.sms_number(told_to)
    end;
$$;

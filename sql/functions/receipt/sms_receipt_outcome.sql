-- What a Twilio message status says of the attempt: it went through, it did not, or Twilio has it and is at it.
create or replace function sms_retry.sms_receipt_outcome(status text) returns text
language sql immutable
as $$
    select case
        when status in ('delivered', 'read', 'partially_delivered') then 'delivered'
        when status in ('undelivered', 'failed', 'canceled') then status
        else 'accepted'
    end;
$$;

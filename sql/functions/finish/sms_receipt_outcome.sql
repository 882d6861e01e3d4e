-- The outcome of an attempt that a Twilio message status means. Every status that is not final means that Twilio has
-- the message.
create or replace function sms_retry.sms_receipt_outcome(status text) returns text
language sql immutable
as $$
    select case
        when status in ('delivered', 'read', 'partially_delivered') then 'delivered'
        when status in ('undelivered', 'failed', 'canceled') then status
        else 'accepted'
    end;
$$;

-- Whether a report is believed, as its row stands. Any other report is stale and changes nothing.
create or replace function sms_retry.sms_report_is_believed(
    outcome        text,
    attempt        int,      -- of the report
    latest         int,      -- attempt of the row
    queue_status   text,
    message_status text,
    is_accepted    boolean,  -- an acceptance of the report's attempt is recorded
    explains       boolean   -- the message failed by a receipt without a code, and the report has one
) returns boolean
language sql immutable
as $$
    select case
        -- The latest claim has no answer yet: this is the answer.
        when attempt = latest and queue_status = 'processing' then true
        -- The latest claim is unknown: any answer settles it, but "unknown" is no answer.
        when attempt = latest and queue_status = 'unknown' then outcome <> 'unknown'
        -- A delivery counts once, from the latest attempt or an earlier one.
        when outcome = 'delivered' then attempt <= latest and message_status <> 'delivered'
        -- Any other report on an earlier attempt is stale.
        when attempt <> latest then false
        -- Twilio accepted the message, and now reports its failure.
        when outcome in ('undelivered', 'failed', 'canceled') and message_status = 'sent' then true
        -- The message failed for an unknown cause, and Twilio names the cause.
        when outcome in ('undelivered', 'failed') and queue_status = 'failed' and explains then true
        -- The message waits for its next send, and this is the first news of an acceptance.
        when outcome in ('accepted', 'undelivered', 'failed', 'canceled') and queue_status = 'pending' then not is_accepted
        else false
    end;
$$;

-- The status of the queue row after a report that is believed.
create or replace function sms_retry.sms_status_after(
    outcome        text,
    attempt        int,           -- of the report
    latest         int,           -- attempt of the row
    queue_status   text,
    message_status text,
    next_try       timestamptz,   -- of sms_next_try
    expires_at     timestamptz,
    is_doubted     boolean = false -- since a restore, by doubt_sms_since
) returns text
language sql immutable
as $$
    select case
        -- An earlier attempt was delivered while a newer one is being sent: the newer one reports for itself.
        when outcome = 'delivered' and attempt < latest and queue_status = 'processing' then 'processing'
        -- A delivered message is complete, even if its newer attempt fails.
        when outcome in ('accepted', 'delivered') or message_status = 'delivered' then 'completed'
        when outcome = 'unknown' then 'unknown'
        when outcome = 'canceled' then 'cancelled'
        -- The next send would come too late.
        when outcome = 'expired' or next_try >= expires_at then 'expired'
        -- Since the restored time the lost database may have sent the message again: Twilio is asked first.
        when next_try is not null and is_doubted and queue_status = 'completed' then 'unknown'
        when next_try is not null then 'pending'
        else 'failed'
    end;
$$;

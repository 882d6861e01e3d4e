-- Reports one delivery receipt on the attempt of a ticket; returns whether it changed the message.
create or replace function sms_retry.settle_sms_receipt(queue_id bigint, attempt int, event sms_retry.sms_delivery_events)
returns boolean
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    outcome text := sms_receipt_outcome(event.status);
    settled boolean;
begin
    select count(*) > 0 into settled
    from settle_sms_reports(
        array[queue_id], array[attempt], array[outcome], array[event.message_sid], array[event.error_code],
        error_messages => null, http_statuses => null, request_ids => null,
        delays => array[event.delays::text], spends => array[event.spends], reasons => array[event.reason]);
    -- A receipt that is repeated after a START opts nobody out again.
    if event.reason = 'opted_out' and (settled or event.received_at = now()) then
        perform opt_out_sms_refusers(array[queue_id], array[outcome], array[event.reason]);
    end if;
    return settled;
end
$$;

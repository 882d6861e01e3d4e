-- Takes in one callback: keeps it, once, and settles the attempt that its ticket names, or else the one with its SID.
-- Answers settled, noted (it changes nothing), repeated, or unheard_of (kept until somebody knows the SID).
create or replace function sms_retry.record_sms_delivery(
    message_sid text,
    status      text,
    error_code  int = null,
    ticket_id   bigint = null,
    attempt     int = null,
    delays      interval[] = null,
    spends      boolean = true,
    reason      text = null
) returns text
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    event   sms_delivery_events;
    ticket  record;
    is_news boolean;
begin
    insert into sms_delivery_events as e (message_sid, status, error_code, ticket, delays, spends, reason)
    values (record_sms_delivery.message_sid, record_sms_delivery.status, record_sms_delivery.error_code,
            record_sms_delivery.ticket_id || '-' || record_sms_delivery.attempt,
            record_sms_delivery.delays, record_sms_delivery.spends, record_sms_delivery.reason)
    on conflict do nothing
    returning e.* into event;
    is_news := found;
    if not is_news then
        -- It may have come while nobody knew its SID, so it is told again; what it has settled before stays as it is.
        select e.* into event from sms_delivery_events e
        where e.message_sid = record_sms_delivery.message_sid and e.status = record_sms_delivery.status
            and e.error_code is not distinct from record_sms_delivery.error_code;
    end if;

    select a.queue_id, a.attempt into ticket from sms_attempts a where a.message_sid = event.message_sid;
    if found and sms_receipt_outcome(event.status) = 'accepted' then
        -- Most callbacks are this one: that Twilio has it is known already.
        return 'noted';
    elsif not found then
        select q.id as queue_id, record_sms_delivery.attempt into ticket
        from sms_retry_queue q
        where q.id = record_sms_delivery.ticket_id and record_sms_delivery.attempt between 1 and q.attempt
            -- A ticket that has its SID is about another message: one from before the database was set back, say.
            and not exists (select from sms_attempts a where a.queue_id = q.id
                and a.attempt = record_sms_delivery.attempt and a.outcome = 'accepted');
        if not found then
            return case when is_news then 'unheard_of' else 'repeated' end;
        end if;
    end if;
    return case
        when settle_sms_receipt(ticket.queue_id, ticket.attempt, event) then 'settled'
        when is_news then 'noted'
        else 'repeated'
    end;
end
$$;

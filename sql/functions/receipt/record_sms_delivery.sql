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
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    told       text := sms_receipt_outcome(record_sms_delivery.status);
    is_news    boolean;
    is_settled boolean;
    event      sms_delivery_events;
    ticket     record;
begin
    with news as (
        insert into sms_delivery_events as e (message_sid, status, error_code, ticket, delays, spends, reason)
        values (record_sms_delivery.message_sid, record_sms_delivery.status, record_sms_delivery.error_code,
                record_sms_delivery.ticket_id || '-' || record_sms_delivery.attempt,
                record_sms_delivery.delays, record_sms_delivery.spends, record_sms_delivery.reason)
        on conflict do nothing
        returning e.error_code
    ),
    -- Whose SID it is; asked for by value from here on, so that no plan joins, and walks a whole index that was empty once.
    owner as materialized (
        select a.queue_id, a.attempt from sms_attempts a where a.message_sid = record_sms_delivery.message_sid
    ),
    -- Nearly every message ends here: its latest attempt, which Twilio has accepted, has arrived. The lock comes first, as
    -- in settle_sms_reports, so that nobody says otherwise meanwhile.
    latest as materialized (
        select q.message_id
        from sms_retry_queue q
        where told = 'delivered' and exists (select from news)
            and q.id = (select queue_id from owner) and q.attempt = (select attempt from owner) and q.status = 'completed'
        for update
    ),
    arrived as (
        update sms_messages m
        set status = 'delivered', delivered_at = now(), updated_at = now(),
            error_code = coalesce((select error_code from news), m.error_code)
        where m.id = (select message_id from latest) and m.delivered_at is null
        returning 1
    )
    select exists (select from news), exists (select from arrived) into is_news, is_settled;
    if is_settled then
        return 'settled';
    end if;

    select a.queue_id, a.attempt into ticket from sms_attempts a where a.message_sid = record_sms_delivery.message_sid;
    if found and told = 'accepted' then
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
            -- Or it has its own by now: whoever wrote that down since we looked has not seen this callback.
            select a.queue_id, a.attempt into ticket
            from sms_attempts a where a.message_sid = record_sms_delivery.message_sid;
        end if;
        if not found then
            return case when is_news then 'unheard_of' else 'repeated' end;
        end if;
    end if;

    -- As it was told first: it may have come while nobody knew its SID. What it has settled before stays as it is.
    select e.* into event from sms_delivery_events e
    where e.message_sid = record_sms_delivery.message_sid and e.status = record_sms_delivery.status
        and e.error_code is not distinct from record_sms_delivery.error_code;
    return case
        when settle_sms_receipt(ticket.queue_id, ticket.attempt, event) then 'settled'
        when is_news then 'noted'
        else 'repeated'
    end;
end
$$;

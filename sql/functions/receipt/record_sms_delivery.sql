-- Records one delivery receipt, once, and settles the attempt that owns its SID, or else the attempt of its ticket.
-- Returns settled, noted (nothing changed), repeated, or unheard_of (kept until an attempt with this SID is known).
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
-- pinned, see sql/README.md
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
        returning 1
    ),
    -- The attempt that owns this SID. Below it is read by value, never joined: see "pinned plans" in sql/README.md.
    owner as materialized (
        select a.queue_id, a.attempt from sms_attempts a where a.message_sid = record_sms_delivery.message_sid
    ),
    -- Nearly every message ends here: its latest attempt, which Twilio accepted, is delivered. The row is locked first,
    -- as in settle_sms_reports, so that no other report changes it in between.
    latest as materialized (
        select q.message_id
        from sms_retry_queue q
        where told = 'delivered' and exists (select from news)
            and q.id = (select queue_id from owner) and q.attempt = (select attempt from owner) and q.status = 'completed'
            -- The receipt of a probe may clear its hold: settle_sms_reports decides that.
            and not exists (select from sms_holds h where h.probe_id = q.id)
        for update
    ),
    arrived as (
        update sms_messages m
        set status = 'delivered', delivered_at = now(), updated_at = now(), error_code = null, error_message = null
        where m.id = (select message_id from latest) and m.delivered_at is null
        returning m.id, m.message_key, m.business_id, m.batch, m.status, m.sender, m.to_number, m.kind, m.sent_at,
            sms_billed_segments(m.segments, m.body) as segments
    ),
    counted as (
        insert into sms_usage (day, business_id, sender, country, kind, outcome, seconds, messages, segments)
        select date_trunc('day', m.sent_at, 'UTC'), m.business_id, coalesce(m.sender, '*'), sms_country(m.to_number), m.kind,
            'delivered', sms_rounded_seconds(now() - m.sent_at), 1, m.segments
        from arrived m
    ),
    events as (
        insert into sms_outbox (type, message_id, message_key, business_id, batch)
        select m.status, m.id, m.message_key, m.business_id, m.batch
        from arrived m where m.status in (select e.type from sms_event_types e)
    )
    select exists (select from news), exists (select from arrived) into is_news, is_settled;
    if is_settled then
        return 'settled';
    end if;

    select a.queue_id, a.attempt into ticket from sms_attempts a where a.message_sid = record_sms_delivery.message_sid;
    if found and told = 'accepted' then
        -- Most receipts end here: the acceptance is known already.
        return 'noted';
    elsif not found then
        select q.id as queue_id, record_sms_delivery.attempt into ticket
        from sms_retry_queue q
        where q.id = record_sms_delivery.ticket_id and record_sms_delivery.attempt between 1 and q.attempt
            -- An attempt that has another SID is another message: its ticket was used before the database was restored.
            and not exists (select from sms_attempts a where a.queue_id = q.id
                and a.attempt = record_sms_delivery.attempt and a.outcome = 'accepted');
        if not found then
            -- Perhaps the attempt was accepted since the first look; that transaction did not see this receipt.
            select a.queue_id, a.attempt into ticket
            from sms_attempts a where a.message_sid = record_sms_delivery.message_sid;
        end if;
        if not found then
            return case when is_news then 'unheard_of' else 'repeated' end;
        end if;
    end if;

    -- A repeated receipt is settled as it came first, with the delays of then. One that was settled before is stale.
    select e.* into event from sms_delivery_events e
    where e.message_sid = record_sms_delivery.message_sid and e.status = record_sms_delivery.status
        and e.error_code is not distinct from record_sms_delivery.error_code;
    is_settled := settle_sms_receipt(ticket.queue_id, ticket.attempt, event);
    if told <> 'delivered' then
        perform settle_early_sms_receipts(array[told], array[record_sms_delivery.message_sid]);
    end if;
    return case
        when is_settled then 'settled'
        when is_news then 'noted'
        else 'repeated'
    end;
end
$$;

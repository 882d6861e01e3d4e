-- Returns all that is known of a person: the messages with their queue rows, attempts, receipts and events, the consents, the
-- holds, and the replies that wait for a consumer.
create or replace function sms_retry.export_sms_recipient(phone_number text) returns jsonb
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    with person as (
        -- Earlier releases stored impossible numbers too. Such a number has only the given spelling.
        select coalesce(sms_number(export_sms_recipient.phone_number), export_sms_recipient.phone_number) as number
    )
    select jsonb_build_object(
        'number', person.number,
        'consents', (
            select coalesce(jsonb_agg(to_jsonb(r) order by r.business_id), '[]') from sms_recipients r
            where r.phone_number = person.number),
        'holds', (
            select coalesce(jsonb_agg(to_jsonb(h)), '[]') from sms_holds h
            where h.scope = 'recipient' and h.key = person.number),
        'replies', (
            select coalesce(jsonb_agg(to_jsonb(o) order by o.id), '[]') from sms_outbox o
            where o.type = 'reply' and o.detail ->> 'from' = person.number),
        'messages', (
            select coalesce(jsonb_agg(to_jsonb(m) || jsonb_build_object(
                'queue', to_jsonb(q),
                'attempts', (
                    select coalesce(jsonb_agg(to_jsonb(a) order by a.attempt, a.at), '[]') from sms_attempts a
                    where a.queue_id = q.id),
                'receipts', (
                    select coalesce(jsonb_agg(to_jsonb(e) order by e.received_at), '[]') from sms_delivery_events e
                    where e.message_sid in (
                        select a.message_sid from sms_attempts a where a.queue_id = q.id
                        union select m.provider_sid)),
                'events', (
                    select coalesce(jsonb_agg(to_jsonb(o) order by o.id), '[]') from sms_outbox o
                    where o.message_id = m.id)
                ) order by m.id), '[]')
            from sms_messages m left join sms_retry_queue q on q.message_id = m.id
            where m.to_number = person.number))
    from person;
$$;

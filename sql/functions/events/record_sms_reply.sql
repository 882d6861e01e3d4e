-- Takes any reply, once by its SID: writes its event where replies are subscribed to, and lets take_sms_reply act on a wish
-- to stop or to start. Returns whether the reply had an effect or an event.
create or replace function sms_retry.record_sms_reply(
    message_sid text,
    from_number text,
    told_to     text,
    body        text,
    wish        text,
    senders     text[] = null
) returns boolean
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    is_subscribed boolean := exists (select from sms_event_types t where t.type = 'reply');
    is_news       boolean := true;
begin
    if record_sms_reply.wish is not null then
        is_news := take_sms_reply(record_sms_reply.message_sid, record_sms_reply.from_number, record_sms_reply.wish,
            record_sms_reply.senders) is not null;
    elsif is_subscribed and record_sms_reply.message_sid is not null then
        insert into sms_replies (message_sid) values (record_sms_reply.message_sid) on conflict do nothing;
        is_news := found;
    end if;

    if is_subscribed and is_news then
        insert into sms_outbox (type, message_id, message_key, business_id, batch, detail)
        select 'reply', m.id, m.message_key, m.business_id, m.batch, jsonb_build_object(
            'from', record_sms_reply.from_number, 'to', record_sms_reply.told_to, 'body', record_sms_reply.body,
            'sid', record_sms_reply.message_sid)
        from (values (1)) one
        -- The message that the person answers: the last one that went to the person within three days.
        left join lateral (
            select m.* from sms_messages m
            where m.to_number = record_sms_reply.from_number and m.sent_at > now() - interval '3 days'
            order by m.sent_at desc
            limit 1
        ) m on true;
    end if;
    return record_sms_reply.wish is not null or is_subscribed;
end
$$;

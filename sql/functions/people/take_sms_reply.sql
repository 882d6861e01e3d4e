-- Takes a reply, once by its SID. A 'stop' opts the person out from the businesses whose senders the reply went to, or from every
-- business. A 'start' to such a sender gives back the consent that a stop took away, and creates none. Returns how many
-- waiting messages failed; null for a reply that was taken before.
create or replace function sms_retry.take_sms_reply(message_sid text, from_number text, wish text, senders text[] = null)
returns int
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
begin
    if take_sms_reply.message_sid is not null then
        insert into sms_replies (message_sid) values (take_sms_reply.message_sid) on conflict do nothing;
        if not found then
            return null;
        end if;
    end if;
    if wish = 'stop' then
        return (
            select sum(stop_sms_recipient(business, take_sms_reply.from_number))
            from sms_businesses_of(take_sms_reply.senders, take_sms_reply.from_number) business);
    end if;

    update sms_recipients r
    set consent = r.consent_before, consent_before = null, consent_changed_at = now()
    where r.phone_number = take_sms_reply.from_number
        and r.business_id in (select sms_businesses_of(take_sms_reply.senders, take_sms_reply.from_number))
        and r.consent = 'opted_out'
        and r.consent_before is not null and wish = 'start';
    return 0;
end
$$;

-- Claims this one message, if it is due and no hold on account and sender stops it.
create or replace function sms_retry.claim_one_sms(message_id bigint) returns setof sms_retry.sms_claim
language sql set search_path = sms_retry, pg_temp
as $$
    select c.*, sms_region_of(c.to_number, c.business_id), m.sender, s.account, m.segments, m.media_urls, m.content_sid,
        m.content_variables::text
    from claim_sms_by_id(claim_one_sms.message_id, only_former => false) c
    join sms_messages m on m.id = c.message_id
    left join sms_senders s on s.sender = coalesce(m.sender, '*');
$$;

-- The facts that an entry needs before it takes a message in: the message under the same key, and the stated zone and region
-- of the recipient. The statement of the business outweighs that for all businesses.
create or replace function sms_retry.sms_known_before(business_id text, message_key text, to_number text)
returns table (message_id bigint, time_zone text, region text)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off
as $$
    select
        (select m.id from sms_messages m
            where m.business_id = sms_known_before.business_id and m.message_key = sms_known_before.message_key),
        (select r.time_zone from sms_recipients r
            where r.phone_number = sms_known_before.to_number and r.business_id in ('*', sms_known_before.business_id)
                and r.time_zone is not null
            order by r.business_id = '*' limit 1),
        sms_region_of(sms_known_before.to_number, sms_known_before.business_id);
$$;

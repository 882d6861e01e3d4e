-- Claims this one message, as claim_sms_now does, with its person's stated region.
create or replace function sms_retry.claim_one_sms(message_id bigint) returns setof sms_retry.sms_claim
language sql set search_path = sms_retry, pg_temp
as $$
    select c.*, sms_region_of(c.to_number, c.business_id) from claim_sms_now(claim_one_sms.message_id) c;
$$;

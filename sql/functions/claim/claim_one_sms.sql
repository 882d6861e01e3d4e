-- Claims this one message, if it may be sent now, as claim_sms_by_id says.
create or replace function sms_retry.claim_one_sms(message_id bigint) returns setof sms_retry.sms_claim
language sql set search_path = sms_retry, pg_temp
as $$
    select * from claim_sms_by_id(message_id, only_former => false);
$$;

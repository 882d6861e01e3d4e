-- Claims this one message, as claim_one_sms, in the columns of release 0.1, which calls it; never a message that release 0.1
-- cannot send.
create or replace function sms_retry.claim_sms_now(message_id bigint) returns setof sms_retry.claimed_sms
language sql set search_path = sms_retry, pg_temp
as $$
    select * from claim_sms_by_id(message_id, only_former => true);
$$;

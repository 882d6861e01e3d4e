-- Claims this one message, as claim_one_sms, in the columns of release 0.1; never a message that release 0.1 cannot send.
create or replace function sms_retry.claim_sms_now(message_id bigint) returns setof sms_retry.claimed_sms
language sql set search_path = sms_retry, pg_temp
as $$
    select id, attempt, message_id, business_id, to_number, body, kind, time_zone, recipient_time_zone, consent,
        expires_at, held_until, limited_until, claimed_at
    from claim_sms_by_id(claim_sms_now.message_id, only_former => true);
$$;

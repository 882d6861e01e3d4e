-- Claims at most limit_count due messages, as claim_sms, in the columns of release 0.1. It leaves out the messages that
-- release 0.1 cannot send: those with a sender, an account, media or a content template.
create or replace function sms_retry.claim_due_sms_retries(limit_count int default 50)
returns setof sms_retry.claimed_sms
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    ids bigint[] := due_sms(let_through_sms_holds(coalesce(limit_count, 0)), only_former => true);
begin
    if cardinality(ids) > 0 then
        return query
        select id, attempt, message_id, business_id, to_number, body, kind, time_zone, recipient_time_zone, consent,
            expires_at, held_until, limited_until, claimed_at
        from claim_locked_sms(ids);
    end if;
end
$$;

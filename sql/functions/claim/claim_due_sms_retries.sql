-- Claims at most limit_count due messages, as claim_sms, in the columns of release 0.1, which calls it. It leaves out the
-- messages that release 0.1 cannot send.
create or replace function sms_retry.claim_due_sms_retries(limit_count int default 50)
returns setof sms_retry.claimed_sms
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    ids bigint[] := due_sms(let_through_sms_holds(coalesce(limit_count, 0)), only_former => true);
begin
    if ids is not null then
        return query select * from take_sms_claims(ids);
    end if;
end
$$;

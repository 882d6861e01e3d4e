-- Claims at most limit_count due messages, and passes over the rows that another worker is claiming. due_sms has the order.
-- `since` is a result of sms_waiting_since: rows that were due earlier are left to a later claim.
create or replace function sms_retry.claim_sms(limit_count int default 50, since timestamptz default null)
returns setof sms_retry.sms_claim
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    wanted  int := coalesce(limit_count, 0);
    allowed int := let_through_sms_holds(wanted);
    ids     bigint[] := due_sms(
        allowed, only_former => false, concerned => case when allowed < wanted then 'main' end, since => since);
begin
    -- A hold on the main account lets the subaccounts go on.
    if allowed < wanted and exists (select from sms_senders where account is not null) then
        ids := ids || due_sms(wanted - allowed, only_former => false, concerned => 'subaccounts', since => since);
    end if;
    if cardinality(ids) > 0 then
        return query select * from claim_locked_sms(ids);
    end if;
end
$$;

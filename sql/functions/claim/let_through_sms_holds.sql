-- How many messages the holds on the account and the sender let through now: all while none is open, none while one is
-- shut, and one, the probe, when the time of every one of them is up.
create or replace function sms_retry.let_through_sms_holds(wanted int) returns int
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
as $$
declare
    open_holds int;
    probing    int;
begin
    select count(*) into open_holds from sms_holds where scope in ('account', 'sender');
    if open_holds = 0 then
        return wanted;
    end if;
    -- Another worker that is probing holds the locks: then there is nothing to do here.
    select count(*) into probing from (
        select from sms_holds where scope in ('account', 'sender') and until <= now() for update skip locked
    ) locked;
    return case when probing = open_holds then least(wanted, 1) else 0 end;
end
$$;

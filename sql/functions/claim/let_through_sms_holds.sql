-- How many of the wanted messages the holds on the account and the sender allow now: all without a hold, one (the
-- probe) when the time of every hold is up, none otherwise.
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
    -- A hold that another worker has locked is being probed: then this worker claims nothing.
    select count(*) into probing from (
        select from sms_holds where scope in ('account', 'sender') and until <= now() for update skip locked
    ) locked;
    return case when probing = open_holds then least(wanted, 1) else 0 end;
end
$$;

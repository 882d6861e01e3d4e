-- How many of the wanted messages the holds on the main account and on the sender of the deployment allow now: all without a
-- hold, one (the probe) when the time of every hold is up, none otherwise. Where the deployment has several senders, a hold
-- on its own sender defers messages at their claim, as every other hold does.
create or replace function sms_retry.let_through_sms_holds(wanted int) returns int
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
as $$
declare
    scopes     text[];
    open_holds int;
    probing    int;
begin
    if not exists (select from sms_holds where scope in ('account', 'sender') and key = '*') then
        return wanted;
    end if;
    scopes := case when exists (select from sms_senders where sender <> '*') then '{account}' else '{account,sender}' end;
    select count(*) into open_holds from sms_holds where scope = any (scopes) and key = '*';
    if open_holds = 0 then
        return wanted;
    end if;
    -- A hold that another worker has locked is being probed: then this worker claims nothing.
    select count(*) into probing from (
        select from sms_holds where scope = any (scopes) and key = '*' and until <= now() for update skip locked
    ) locked;
    return case when probing = open_holds then least(wanted, 1) else 0 end;
end
$$;

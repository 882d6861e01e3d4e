-- Sets a budget of segments in each interval `per`, or removes it where segments is null, and makes the messages that wait for
-- a budget due. An interval begins at a multiple of `per` since 1970 (UTC). What is spent in the present interval stays.
create or replace function sms_retry.set_sms_budget(scope text, key text, segments int, per interval default '1 day')
returns void
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    seconds numeric := extract(epoch from set_sms_budget.per);
    faults  text := concat_ws('; ',
        case when (case set_sms_budget.scope
                when 'account' then set_sms_budget.key ~ '^([*]|[A-Za-z0-9_-]{1,64})$'
                when 'business' then char_length(set_sms_budget.key) between 1 and 255
                when 'country' then set_sms_budget.key ~ '^[+][1-9][0-9]{0,14}$'
                when 'kind' then set_sms_budget.key in ('transactional', 'marketing', 'otp', 'emergency')
            end) is not true
            then 'the key of an account must be * or a subaccount, of a business its id, of a country the first digits of '
                'its numbers such as +44, of a kind transactional, marketing, otp or emergency' end,
        case when (set_sms_budget.per >= interval '1 minute') is not true then 'per must be at least a minute' end,
        case when set_sms_budget.segments < 0 then 'segments must not be negative' end);
begin
    -- A budget with any key may be removed.
    if set_sms_budget.segments is not null and faults <> '' then
        raise exception 'nothing was stored: %', faults using errcode = 'invalid_parameter_value';
    end if;
    if set_sms_budget.segments is null then
        delete from sms_budgets b
        where b.scope = set_sms_budget.scope and b.key = set_sms_budget.key
            and b.per = sms_length_of(set_sms_budget.per);
    else
        insert into sms_budgets as b (scope, key, per, segments, since)
        values (set_sms_budget.scope, set_sms_budget.key, sms_length_of(set_sms_budget.per), set_sms_budget.segments,
            to_timestamp(floor(extract(epoch from now()) / seconds) * seconds))
        on conflict on constraint sms_budgets_pkey do update set segments = excluded.segments;
    end if;

    with waiting as materialized (
        select q.id from sms_retry_queue q where q.status = 'pending' and q.reason = 'budget' order by q.id
        for update skip locked
    )
    update sms_retry_queue q set scheduled_for = now() from waiting w where q.id = w.id and q.scheduled_for > now();
    -- A worker is about to defer these: settle_sms_reports makes them due.
    with claimed as materialized (
        select q.id from sms_retry_queue q where q.status = 'processing' and q.budget_until > now() order by q.id
        for update skip locked
    )
    update sms_retry_queue q set budget_until = now() from claimed c where q.id = c.id;
end
$$;

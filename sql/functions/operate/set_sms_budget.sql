-- Sets a budget of segments in each interval `per`, or removes it where segments is null, and makes the messages that wait for
-- a budget due. An interval begins at a multiple of `per` since 1970 (UTC). What is spent in the present interval stays.
create or replace function sms_retry.set_sms_budget(scope text, key text, segments int, per interval default '1 day')
returns void
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    seconds numeric := extract(epoch from set_sms_budget.per);
begin
    if set_sms_budget.segments is null then
        delete from sms_budgets b
        where b.scope = set_sms_budget.scope and b.key = set_sms_budget.key and b.per = set_sms_budget.per;
    else
        insert into sms_budgets as b (scope, key, per, segments, since)
        values (set_sms_budget.scope, set_sms_budget.key, set_sms_budget.per, set_sms_budget.segments,
            to_timestamp(floor(extract(epoch from now()) / seconds) * seconds))
        on conflict on constraint sms_budgets_pkey do update set segments = excluded.segments;
    end if;

    with waiting as materialized (
        select q.id from sms_retry_queue q where q.status = 'pending' and q.reason = 'budget' order by q.id
        for update skip locked
    )
    update sms_retry_queue q set scheduled_for = now() from waiting w where q.id = w.id and q.scheduled_for > now();
end
$$;

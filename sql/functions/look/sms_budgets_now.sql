-- The budgets, the segments that are spent in their present intervals, and when those end.
create or replace function sms_retry.sms_budgets_now()
returns table (scope text, key text, per interval, segments int, spent bigint, turns_at timestamptz)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select b.scope, b.key, b.per, b.segments, case when b.since + b.per > now() then b.spent else 0 end,
        case when b.since + b.per > now() then b.since + b.per end
    from sms_budgets b order by 1, 2, 3;
$$;

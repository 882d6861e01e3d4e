-- Returns the reserved segments of reports after which nothing was sent: Twilio bills no POST that it refuses. A budget whose
-- interval has turned since the claim has no such segments any more. A message of these reports that waits for a budget and fits
-- into it now is due. It runs last, because a claim locks holds before budgets, and passes over stale reports.
create or replace function sms_retry.return_sms_budgets(ids bigint[], attempts int[], outcomes text[]) returns void
language plpgsql set search_path = sms_retry, pg_temp
as $$
begin
    perform from sms_budgets order by scope, key, per for update;
    with unsent as materialized (
        select distinct q.id, q.reserved, q.message_id, q.reserved_at
        from unnest(ids, attempts, outcomes) as t (id, attempt, outcome)
        join sms_retry_queue q on q.id = t.id and q.attempt = t.attempt
        -- This transaction believed the report.
        join sms_messages m on m.id = q.message_id and m.updated_at = now()
        where q.reserved is not null and t.outcome in ('refused', 'deferred', 'expired', 'opted_out', 'not_sent')
    ),
    cleared as (
        update sms_retry_queue q set reserved = null from unsent u where q.id = u.id
    )
    update sms_budgets b set spent = greatest(b.spent - back.segments, 0)
    from (
        select b.scope, b.key, b.per, sum(u.reserved) as segments
        from unsent u
        join sms_messages m on m.id = u.message_id
        left join sms_senders s on s.sender = coalesce(m.sender, '*')
        join sms_budgets b on sms_budget_concerns(b.scope, b.key, m.to_number, m.business_id, m.kind, s.account)
            and b.since <= u.reserved_at
        group by b.scope, b.key, b.per
    ) back
    where b.scope = back.scope and b.key = back.key and b.per = back.per;

    update sms_retry_queue q set scheduled_for = now()
    from sms_messages m
    left join sms_senders s on s.sender = coalesce(m.sender, '*')
    where q.id = any (ids) and m.id = q.message_id and q.status = 'pending' and q.reason = 'budget' and not exists (
        select from sms_budgets b
        where sms_budget_concerns(b.scope, b.key, m.to_number, m.business_id, m.kind, s.account)
            and b.spent + sms_billed_segments(m.segments, m.body) > b.segments);
end
$$;

-- Reserves the segments of locked queue rows in every budget that concerns them, in the order of ids. A row that does not fit
-- into one of its budgets reserves nothing, and waits until that budget's interval turns. Each budget stays locked until the
-- claim is committed, so that several workers together reserve exactly what it allows.
create or replace function sms_retry.reserve_sms_budgets(ids bigint[]) returns void
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    row    record;
    waits  timestamptz;
begin
    -- Every function that locks several budgets locks them in this order, after queue rows and holds.
    perform from sms_budgets order by scope, key, per for update;
    update sms_budgets set spent = 0,
        since = since + floor(extract(epoch from now() - since) / extract(epoch from per)) * per
    where since + per <= now();

    for row in
        select q.id, m.to_number, m.business_id, m.kind, s.account,
            sms_billed_segments(m.segments, m.body) as segments
        from sms_retry_queue q
        join sms_messages m on m.id = q.message_id
        left join sms_senders s on s.sender = coalesce(m.sender, '*')
        where q.id = any (ids)
        order by array_position(ids, q.id)
    loop
        select max(b.since + b.per) into waits from sms_budgets b
        where sms_budget_concerns(b.scope, b.key, row.to_number, row.business_id, row.kind, row.account)
            and b.spent + row.segments > b.segments;
        if waits is null then
            update sms_budgets b set spent = b.spent + row.segments
            where sms_budget_concerns(b.scope, b.key, row.to_number, row.business_id, row.kind, row.account);
        end if;
        update sms_retry_queue q
        set budget_until = waits, reserved = case when waits is null then row.segments end, reserved_at = now()
        where q.id = row.id;
    end loop;
end
$$;

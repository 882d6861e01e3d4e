-- Clears a hold, and makes the messages due that wait in its scope: at most 100,000 in one call. A repeated call finds more.
-- Those that another hold concerns wait again. Returns false if no such hold is set.
create or replace function sms_retry.close_sms_hold(scope text, key text) returns boolean
language sql set search_path = sms_retry, pg_temp
as $$
    with given as materialized (
        select coalesce(case when close_sms_hold.scope = 'recipient' then sms_number(close_sms_hold.key) end,
            close_sms_hold.key) as key
    ),
    closed as (
        delete from sms_holds h using given g
        where h.scope = close_sms_hold.scope and h.key in (g.key, close_sms_hold.key)
        returning 1
    ),
    waiting as materialized (
        select q.id
        from sms_retry_queue q
        join sms_messages m on m.id = q.message_id
        left join sms_senders s on s.sender = coalesce(m.sender, '*')
        cross join given g
        where q.status = 'pending' and q.reason = 'hold' and q.scheduled_for > now() and case close_sms_hold.scope
            when 'account' then coalesce(s.account, '*') = g.key
            when 'sender' then coalesce(m.sender, '*') = g.key
            when 'country' then starts_with(m.to_number, g.key)
            when 'recipient' then m.to_number = g.key
            when 'business' then m.business_id = g.key
            when 'batch' then m.batch = g.key
        end
        order by q.id
        limit 100000
        for update of q skip locked
    ),
    due as (
        update sms_retry_queue q set scheduled_for = now() from waiting w where q.id = w.id
    )
    select exists (select from closed);
$$;

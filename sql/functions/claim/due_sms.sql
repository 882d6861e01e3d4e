-- Locks at most `wanted` due rows, and passes over the rows that another worker is claiming. Up to half of them are the
-- longest due message of a lane each; the others are the longest due messages of all. `only_former` leaves out the messages
-- that release 0.1 cannot send.
create or replace function sms_retry.due_sms(wanted int, only_former boolean) returns bigint[]
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md: the indexes have the order already, and a plan that sorts would read every waiting row
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
    ids   bigint[];
    start int := floor(random() * 4294967296)::bigint - 2147483648;
begin
    -- Visits the lanes in circular order from a random start, so that every lane gets its turn.
    with recursive lanes as (
        select coalesce(
            (select q.lane from sms_retry_queue q where q.status = 'pending' and q.lane >= start order by q.lane limit 1),
            (select q.lane from sms_retry_queue q where q.status = 'pending' and q.lane < start order by q.lane limit 1)
        ) as lane, 1 as n
        union all
        select next.lane, l.n + 1
        from lanes l
        cross join lateral (select case
            when l.lane >= start then coalesce(
                (select q.lane from sms_retry_queue q where q.status = 'pending' and q.lane > l.lane order by q.lane limit 1),
                (select q.lane from sms_retry_queue q where q.status = 'pending' and q.lane < start order by q.lane limit 1))
            else (select q.lane from sms_retry_queue q
                where q.status = 'pending' and q.lane > l.lane and q.lane < start order by q.lane limit 1)
            end as lane) next
        where l.n < wanted / 2 and next.lane is not null
    ),
    turns as materialized (
        select first.id
        from lanes
        cross join lateral (
            -- `between` leaves only the index of lanes: in the index of due rows a million others may come first.
            select id from sms_retry_queue q
            where q.status = 'pending' and q.lane between lanes.lane and lanes.lane and q.scheduled_for <= now()
                and (not only_former or sms_is_former(q.message_id))
            order by q.lane, q.scheduled_for, q.id
            limit 1
            for update skip locked
        ) first
        where wanted > 1
    ),
    due as materialized (
        select id from sms_retry_queue
        where status = 'pending' and scheduled_for <= now() and id not in (select id from turns)
            and (not only_former or sms_is_former(message_id))
        order by scheduled_for, id
        limit wanted - (select count(*) from turns)
        for update skip locked
    )
    select array_agg(id) into ids from (select id from turns union all select id from due) locked;
    return ids;
end
$$;

-- Locks at most `places` rows of the lanes from lows[n] to highs[n] that became due from `since` to `before` and are not among
-- `taken`. The lanes give equal shares of their longest due rows; if a lane has fewer rows, the others give more. The first
-- rows of all lanes come before the second rows.
create or replace function sms_retry.due_sms_of_lanes(
    lows   bigint[],
    highs  bigint[],
    places int,
    since  timestamptz,
    before timestamptz,
    taken  bigint[]
) returns bigint[]
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md: the indexes have the order already, and a plan that sorts would read every waiting row
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
    lanes int[] := due_sms_lanes(lows, highs, places, since, before, 0, null);
    ids   bigint[] := '{}';
    share int;
    more  bigint[];
begin
    while cardinality(lanes) > 0 and cardinality(ids) < places loop
        share := greatest((places - cardinality(ids)) / cardinality(lanes), 1);
        with due as materialized (
            select l.lane, l.place, first.id, first.turn
            from unnest(lanes) with ordinality l (lane, place)
            cross join lateral (
                select q.id, row_number() over () as turn
                from (
                    -- `between` leaves only the index of lanes: in the index of due rows a million others may come first.
                    select q.id from sms_retry_queue q
                    where q.status = 'pending' and q.lane between l.lane and l.lane and q.scheduled_for between since and before
                        and q.id <> all (taken) and q.id <> all (ids)
                    order by q.lane, q.scheduled_for, q.id
                    limit share
                    for update skip locked
                ) q
            ) first
            limit places - cardinality(ids)
        ),
        full_lane as (select lane from due group by lane having count(*) = share)
        select (select array_agg(id order by turn, place) from due), (select array_agg(lane) from full_lane) into more, lanes;
        ids := ids || more;
    end loop;
    return ids;
end
$$;

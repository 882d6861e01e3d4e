-- The lanes that have a row that became due from `since` to `before`, of one or two parts, from lows[n] to highs[n]: at most
-- limit_count, in circular order from the lane `start`. The parts have the lanes of the senders with the numbers up to
-- `numbers`, or, if this is 0, those of senders without a number. Without a start it is a random one, so that every lane has
-- its turn. The walk visits at most a thousand lanes more. A lane whose sender has no tokens, or is of the other accounts
-- than `concerned` (main, subaccounts), does not count.
create or replace function sms_retry.due_sms_lanes(
    lows        bigint[],
    highs       bigint[],
    limit_count int,
    since       timestamptz,
    before      timestamptz,
    numbers     int,
    concerned   text,
    start       bigint = null
) returns int[]
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
    origin bigint := coalesce(start, lows[1 + floor(random() * cardinality(lows))]
                        + floor(random() * 131072 * greatest(numbers, 1))::bigint);
    part   int := case when origin <= highs[1] then 1 else 2 end;
    other  int := 3 - part;
    middle bigint := lows[other] + origin - lows[part];
begin
    -- From the start to the end of its part, and from its begin to the start; then the other part in the same way. If the
    -- other part began at its first lane, that lane would come first in each claim while the part of the start is empty.
    highs := (array[highs[part], origin - 1, highs[other], middle - 1])[:2 * cardinality(lows)];
    lows := (array[origin, lows[part], middle, lows[other]])[:2 * cardinality(lows)];
    return (
        with recursive walk as (
            select 1 as part, lows[1] - 1 as lane, false as is_due, 0 as visits, 0 as found
            union all
            select case when next.lane is null then w.part + 1 else w.part end,
                coalesce(next.lane, lows[w.part + 1] - 1), coalesce(next.is_due, false),
                w.visits + 1, w.found + coalesce(next.is_due, false)::int
            from walk w
            left join lateral (
                select q.lane, q.scheduled_for <= before and (numbers = 0 or not exists (
                    select from sms_senders s
                    where s.number = (q.lane >> 17) & 4095
                        and (not sms_tokens_suffice(s.segments_per_second,
                                sms_tokens(s.segments_per_second, s.tokens, s.filled_at), 1)
                            or concerned <> case when s.account is null then 'main' else 'subaccounts' end)
                    offset 0)) as is_due
                from sms_retry_queue q
                where q.status = 'pending' and q.lane > w.lane and q.lane <= highs[w.part]
                    and q.scheduled_for >= since
                order by q.lane, q.scheduled_for, q.id
                limit 1
            ) next on true
            where w.part <= cardinality(highs) and w.found < limit_count and w.visits < limit_count::bigint + 1000
        )
        select array_agg(lane::int) from walk where is_due);
end
$$;

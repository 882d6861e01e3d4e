-- Locks at most `places` rows of these lanes of senders with a number, in equal shares as due_sms_of_lanes, and takes their
-- segments from the tokens of their senders. A sender from which another worker draws at this moment is passed over.
create or replace function sms_retry.draw_sms_of_lanes(
    lanes  int[],
    places int,
    since  timestamptz,
    before timestamptz,
    taken  bigint[]
) returns bigint[]
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_mergejoin = off set jit = off
as $$
declare
    ids   bigint[] := '{}';
    share int;
    more  bigint[];
begin
    while cardinality(lanes) > 0 and cardinality(ids) < places loop
        share := ceil((places - cardinality(ids))::numeric / cardinality(lanes));
        with lane as materialized (
            select l.lane, l.place, (l.lane >> 17) & 4095 as number,
                count(*) over (partition by (l.lane >> 17) & 4095) as of_sender
            from unnest(lanes) with ordinality l (lane, place)
        ),
        sender as materialized (
            select s.number, s.segments_per_second as pace, sms_tokens(s.segments_per_second, s.tokens, s.filled_at) as tokens
            from sms_senders s
            where s.number = any (array(select distinct number from lane)) and s.segments_per_second > 0
            order by s.number
            for update skip locked
        ),
        open_lane as materialized (
            -- Since due_sms_lanes looked, others may have drawn or borrowed.
            select l.*, s.pace, s.tokens,
                greatest(least(share, coalesce(ceil(s.tokens / l.of_sender), share) + 1), 0)::int as share
            from lane l
            left join sender s on s.number = l.number
            -- Without a pace: a sender of a subaccount, or a lane of release 0.1.
            where s.number is not null
                or not exists (select from sms_senders p where p.number = l.number and p.segments_per_second > 0 offset 0)
        ),
        due as materialized (
            select l.*, first.id, first.message_id, first.turn
            from open_lane l
            cross join lateral (
                select q.id, q.message_id, row_number() over () as turn
                from (
                    select q.id, q.message_id from sms_retry_queue q
                    where q.status = 'pending' and q.lane between l.lane and l.lane and q.scheduled_for between since and before
                        and q.id <> all (taken) and q.id <> all (ids)
                    order by q.lane, q.scheduled_for, q.id
                    limit l.share
                    for update skip locked
                ) q
            ) first
        ),
        counted as (
            select d.lane, d.id, d.number, d.pace, d.tokens, coalesce(m.segments, 1) as segments,
                sum(coalesce(m.segments, 1)) over (partition by d.number order by d.turn, d.place) as used,
                row_number() over (order by d.turn, d.place) as n
            from due d join sms_messages m on m.id = any (array[d.message_id])
        ),
        let_go as materialized (
            select * from counted c
            where c.n <= places - cardinality(ids)
                and (c.pace is null or sms_tokens_suffice(c.pace, c.tokens - (c.used - c.segments), c.segments))
        ),
        drawn as (
            update sms_senders s set tokens = d.tokens - d.used, filled_at = greatest(now(), s.filled_at)
            from (select number, min(tokens) as tokens, sum(segments) as used from let_go where pace > 0 group by number) d
            where s.number = any (array[d.number])
        ),
        full_lane as (select lane from let_go group by lane having count(*) = share)
        select (select array_agg(id order by n) from let_go), (select array_agg(lane) from full_lane) into more, lanes;
        ids := ids || more;
    end loop;
    return ids;
end
$$;

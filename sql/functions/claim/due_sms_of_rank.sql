-- Locks at most `places` rows of one rank that became due from `since` to `before` and are not among `taken`. The rows of
-- senders with a number (up to `numbers`, 0 if none has one) are at most half, while other rows want the rest. Few of their
-- lanes give about five rows each, so that a claim updates few senders; where these have less, more lanes give.
create or replace function sms_retry.due_sms_of_rank(
    rank        int,
    places      int,
    since       timestamptz,
    before      timestamptz,
    taken       bigint[],
    numbers     int,
    only_former boolean,
    concerned   text
) returns bigint[]
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    -- The lanes of the rank, see sms_lane. Release 0.1 has lanes above all ranks too: rank 2 has them.
    first  bigint := -2147483648 + (rank::bigint << 30);
    last   bigint := case rank when 2 then 2147483647 else first + 1073741823 end;
    own    bigint := first + 536870912;
    halves bigint := case when only_former then 1 else 2 end;
    free   bigint[] := '{}';
    drawn  bigint[] := '{}';
    lows   bigint[] := (array[first + 131072, own + 131072])[:halves];
    highs  bigint[] := (array[own - 1, last])[:halves];
    wanted int;
    visits int;
    lanes  int[];
begin
    if places <= 0 then
        return free;
    elsif numbers = 0 then
        return due_sms_of_lanes((array[first, own])[:halves], (array[own - 1, last])[:halves], places, since, before, taken);
    end if;
    if concerned is distinct from 'subaccounts' then
        free := due_sms_of_lanes((array[first, own])[:halves], (array[first + 131071, own + 131071])[:halves], places, since,
            before, taken);
    end if;
    wanted := greatest(places - cardinality(free), floor(places / 2.0 + random() / 2)::int);
    for turn in 1..3 loop
        -- The first turn shows how many rows a lane has; the second takes lanes for the missing rows and half as many again.
        visits := case turn when 1 then ceil(wanted / 5.0) when 3 then wanted
            else least(ceil(1.5 * visits * wanted / nullif(cardinality(drawn), 0) - 1.5 * visits), wanted) end;
        lanes := due_sms_lanes(lows, highs, visits, since, before, numbers, concerned, lanes[cardinality(lanes)]);
        drawn := drawn || draw_sms_of_lanes(lanes, wanted - cardinality(drawn), since, before, taken || drawn);
        exit when cardinality(drawn) >= wanted or coalesce(cardinality(lanes), 0) < visits;
    end loop;
    return drawn || free[:places - cardinality(drawn)];
end
$$;

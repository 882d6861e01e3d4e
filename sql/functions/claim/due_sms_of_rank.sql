-- Locks at most `places` rows of one rank that became due from `since` to `before` and are not among `taken`. The rows of
-- senders with a number are at most half, while other rows want the rest. Few of their lanes give about five rows each, so that a claim
-- updates few senders; where these have less, more lanes give.
create or replace function sms_retry.due_sms_of_rank(
    rank        int,
    places      int,
    since       timestamptz,
    before      timestamptz,
    taken       bigint[],
    has_numbers boolean,
    only_former boolean,
    concerned   text
) returns bigint[]
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    -- The lanes of the rank, see sms_lane. The highest rank has those of release 0.1 too, until they are corrected.
    first  bigint := -2147483648 + (rank::bigint << 30);
    last   bigint := case rank when 2 then 2147483647 else first + 1073741823 end;
    own    bigint := first + 536870912;
    halves bigint := case when only_former then 1 else 2 end;
    free   bigint[] := '{}';
    drawn  bigint[] := '{}';
    lows   bigint[] := (array[first + 131072, own + 131072])[:halves];
    highs  bigint[] := (array[own - 1, last])[:halves];
    wanted int;
    lanes  int[];
begin
    if places <= 0 then
        return free;
    elsif not has_numbers then
        return due_sms_of_lanes(array[first], array[case when only_former then own - 1 else last end], places, since, before,
            taken);
    end if;
    if concerned is distinct from 'subaccounts' then
        free := due_sms_of_lanes((array[first, own])[:halves], (array[first + 131071, own + 131071])[:halves], places, since,
            before, taken);
    end if;
    wanted := greatest(places - cardinality(free), floor(places / 2.0 + random() / 2)::int);
    lanes := due_sms_lanes(lows, highs, ceil(wanted / 5.0)::int, since, before, true, concerned);
    drawn := draw_sms_of_lanes(lanes, wanted, since, before, taken);
    if cardinality(lanes) = ceil(wanted / 5.0) and cardinality(drawn) < wanted then
        lanes := due_sms_lanes(lows, highs, wanted, since, before, true, concerned);
        drawn := drawn || draw_sms_of_lanes(lanes, wanted - cardinality(drawn), since, before, taken || drawn);
    end if;
    return drawn || free[:places - cardinality(drawn)];
end
$$;

-- A time in seconds, rounded up to a power of the square root of two: 1, 2, 3, 4, 6, 8, 12, 16, 23 ... Few values are left
-- to count.
create or replace function sms_retry.sms_rounded_seconds(passed interval) returns int
language sql immutable parallel safe
as $$
    select ceil(power(2, ceil(2 * log(2, greatest(extract(epoch from passed), 1))) / 2))::int;
$$;

-- A time in seconds, rounded up to a power of the square root of two: 1, 2, 3, 4, 6, 8, 12, 16, 23 ... Few values are left
-- to count.
create or replace function sms_retry.sms_rounded_seconds(passed interval) returns int
language sql immutable parallel safe
as $$
    select ceil(power(2::float8,
        ceil(2 * ln(greatest(extract(epoch from passed)::float8, 1)) / ln(2::float8) - 1e-9) / 2) - 1e-9)::int;
$$;

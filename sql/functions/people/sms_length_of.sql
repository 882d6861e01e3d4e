-- The length of an interval, in hours: a month is 30 days and a year 365.25 days. No calendar and no change of clocks moves its
-- end.
create or replace function sms_retry.sms_length_of(per interval) returns interval
language sql immutable
as $$
    select make_interval(secs => extract(epoch from per)::float8);
$$;

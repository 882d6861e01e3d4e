-- The length of an interval of a budget: a month is 30 days and a year 365.25 days, as set_sms_budget counts them.
create or replace function sms_retry.sms_length_of(per interval) returns interval
language sql immutable
as $$
    select make_interval(secs => extract(epoch from per)::float8);
$$;

-- The usage since an instant, rounded down to midnight UTC, by day, business, sender, country, kind or code: the messages
-- that Twilio accepted with their segments, the POSTs that it refused, and the last receipts. Half of the messages were
-- delivered within median_seconds, and 95 in a hundred within slowest_seconds; by code these are the times of all receipts.
create or replace function sms_retry.sms_usage_by(dimension text, since timestamptz)
returns table (name text, messages bigint, segments bigint, refused bigint, delivered bigint, undelivered bigint,
    median_seconds int, slowest_seconds int)
language sql stable set search_path = sms_retry, pg_temp
as $$
    with counted as materialized (
        select sms_usage_name(dimension, u) as name, u.outcome, u.seconds, sum(u.messages) as n, sum(u.segments) as segments
        from sms_usage u
        where u.day >= date_trunc('day', since, 'UTC')
        group by 1, 2, 3
    ),
    timed as (
        select c.name, c.seconds, sum(c.n) over (partition by c.name order by c.seconds) as until_here,
            sum(c.n) over (partition by c.name) as n
        from counted c
        where c.seconds is not null and (c.outcome = 'delivered' or dimension = 'code')
    ),
    percentiles as (
        select t.name, min(t.seconds) filter (where t.until_here >= 0.5 * t.n) as median,
            min(t.seconds) filter (where t.until_here >= 0.95 * t.n) as slowest
        from timed t group by 1
    )
    select c.name,
        coalesce(sum(c.n) filter (where c.outcome = 'accepted'), 0)::bigint,
        coalesce(sum(c.segments) filter (where c.outcome = 'accepted'), 0)::bigint,
        coalesce(sum(c.n) filter (where c.outcome = 'refused'), 0)::bigint,
        coalesce(sum(c.n) filter (where c.outcome = 'delivered'), 0)::bigint,
        coalesce(sum(c.n) filter (where c.outcome in ('undelivered', 'failed')), 0)::bigint,
        min(p.median), min(p.slowest)
    from counted c left join percentiles p on p.name = c.name
    group by 1
    order by 1;
$$;

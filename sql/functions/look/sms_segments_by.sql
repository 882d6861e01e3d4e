-- The segments that Twilio accepted since an instant, rounded down to midnight UTC, by a dimension of sms_usage_by and by
-- country.
create or replace function sms_retry.sms_segments_by(dimension text, since timestamptz)
returns table (name text, country text, segments bigint)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select sms_usage_name(dimension, u), u.country, sum(u.segments)::bigint
    from sms_usage u
    where u.outcome = 'accepted' and u.day >= date_trunc('day', since, 'UTC')
    group by 1, 2;
$$;

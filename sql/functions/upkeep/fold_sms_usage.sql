-- Adds the rows of equal groups of the last eight days together, the youngest days first: at most 100,000 rows in one call.
-- Receipts come within four days. Returns how many rows fewer are left.
create or replace function sms_retry.fold_sms_usage() returns int
language sql set search_path = sms_retry, pg_temp
as $$
    with rows as materialized (
        select ctid from sms_usage where day > now() - interval '8 days' order by day desc limit 100000
        for update skip locked
    ),
    taken as (
        delete from sms_usage u using rows where u.ctid = rows.ctid returning u.*
    ),
    put as (
        insert into sms_usage
        select day, business_id, sender, country, kind, outcome, error_code, seconds, sum(messages), sum(segments)
        from taken group by 1, 2, 3, 4, 5, 6, 7, 8
        having sum(messages) <> 0
        returning 1
    )
    select ((select count(*) from taken) - (select count(*) from put))::int;
$$;

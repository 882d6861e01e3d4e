-- The stated region of a person, of this business or of all; null where none is stated.
create or replace function sms_retry.sms_region_of(to_number text, business_id text) returns text
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off
as $$
    select r.region from sms_recipients r
    where r.phone_number = sms_region_of.to_number and r.business_id in ('*', sms_region_of.business_id)
        and r.region is not null
    order by r.business_id = '*'
    limit 1;
$$;

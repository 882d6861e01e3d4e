-- A person's region: the stated one, or else that of the area code after +1; null where neither is known.
create or replace function sms_retry.sms_region(stated text, phone_number text) returns text
language sql stable parallel safe
as $$
    select coalesce(stated, (
        select a.region from sms_retry.sms_area_codes a
        where starts_with(phone_number, '+1') and a.area_code = substr(phone_number, 3, 3)));
$$;

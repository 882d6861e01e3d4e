-- Masks a phone number as operate.py does: +49176123456 becomes +4917*****56; a short number keeps two characters.
create or replace function sms_retry.masked_sms_number(number text) returns text
language sql immutable
as $$
    select case when length(number) <= 10 then rpad(left(number, 2), length(number), '*')
        else left(number, 5) || repeat('*', length(number) - 7) || right(number, 2) end;
$$;

-- A number as somebody may see it who has not asked for it: +49176123456 as +4917*****56; of a
-- short one only how it begins. As operate.py masks it.
create or replace function sms_retry.masked_sms_number(number text) returns text
language sql immutable
as $$
    select case when length(number) <= 8 then rpad(left(number, 2), length(number), '*')
        else left(number, 5) || repeat('*', length(number) - 7) || right(number, 2) end;
$$;

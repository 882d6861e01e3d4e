-- The country of a number as its calling code, such as +44. Countries that share +1 with the United States and Canada have
-- their area code too, such as +1876 (Jamaica), because a text to them has another price. A regular expression would cost a
-- tenth of the claim.
create or replace function sms_retry.sms_country(to_number text) returns text
language sql immutable parallel safe
as $$
    select case
        when starts_with(to_number, '+1') then case
            when substr(to_number, 3, 3) = any ('{242,246,264,268,284,340,345,441,473,649,658,664,670,671,684,721,758,767,784,787,
                809,829,849,868,869,876,939}') then left(to_number, 5) else '+1' end
        when starts_with(to_number, '+7') then '+7'
        when substr(to_number, 2, 2) = any ('{20,27,30,31,32,33,34,36,39,40,41,43,44,45,46,47,48,49,51,52,53,54,55,56,57,58,60,
            61,62,63,64,65,66,81,82,84,86,90,91,92,93,94,95,98}') then left(to_number, 3)
        else left(to_number, 4)
    end;
$$;

-- The one spelling of a phone number: E.164 as libphonenumber formats it, such as +447700900123 for +4407700900123. Null where
-- libphonenumber calls the number impossible. The steps are those of its `parse` and `is_possible_number`.
create or replace function sms_retry.sms_number(given text) returns text
language plpgsql stable strict parallel safe
as $$
declare
    digits   text := substr(given, 2);
    code     sms_retry.sms_calling_codes;
    national text;
    stripped text;
    found_at text[];
begin
    -- The length is compared apart: a count in a regular expression builds a state for each digit, in each call.
    if given !~ '^[+][1-9][0-9]+$' or length(given) not between 4 and 26 then
        return null;
    end if;
    -- No calling code begins another: 1 and 7 have one digit, every other code has two or three.
    select c.* into code from sms_retry.sms_calling_codes c
    where c.calling_code = left(digits, case when left(digits, 1) in ('1', '7') then 1 else 2 end);
    if not found then
        select c.* into code from sms_retry.sms_calling_codes c where c.calling_code = left(digits, 3);
    end if;
    if not found then
        return null;
    end if;

    national := substr(digits, length(code.calling_code) + 1);
    found_at := regexp_match(national, '^((?:' || code.trunk_prefix || '))');
    if found_at is not null then
        stripped := case
            when code.trunk_rule is null or found_at[cardinality(found_at)] is null
                then substr(national, length(found_at[1]) + 1)
            else regexp_replace(national, '^(?:' || code.trunk_prefix || ')', code.trunk_rule)
        end;
        -- The prefix stays where the number was complete with it and is not without it, or becomes too short.
        if (national !~ ('^(?:' || code.national_pattern || ')$') or stripped ~ ('^(?:' || code.national_pattern || ')$'))
            and (length(stripped) = any (code.lengths) or length(stripped) > code.lengths[cardinality(code.lengths)])
        then
            national := stripped;
        end if;
    end if;

    if length(national) = any (code.lengths || code.local_lengths) and length(code.calling_code || national) <= 15 then
        return '+' || code.calling_code || national;
    end if;
    return null;
end
$$;

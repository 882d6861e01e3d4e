-- The one spelling of a phone number whose calling code is known, as sms_number states it. Null where libphonenumber calls the
-- number impossible, and for a null code.
create or replace function sms_retry.sms_number_under(given text, code sms_retry.sms_calling_codes) returns text
language plpgsql immutable parallel safe
as $$
declare
    national text;
    stripped text;
    found_at text[];
begin
    -- The length is compared apart: a count in a regular expression builds a state for each digit, in each call.
    if (given ~ '^[+][1-9][0-9]+$' and length(given) between 4 and 26 and code.calling_code is not null) is not true then
        return null;
    end if;

    national := substr(given, length(code.calling_code) + 2);
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

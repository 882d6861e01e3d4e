-- The calling code with which a number in E.164 begins, or null. No calling code begins another: 1 and 7 have one digit, every
-- other code has two or three, so that the first four characters of the number decide.
create or replace function sms_retry.sms_calling_code(given text) returns sms_retry.sms_calling_codes
language plpgsql stable strict parallel safe
as $$
declare
    code sms_retry.sms_calling_codes;
begin
    select c.* into code from sms_retry.sms_calling_codes c
    where c.calling_code = substr(given, 2, case when substr(given, 2, 1) in ('1', '7') then 1 else 2 end);
    if not found then
        select c.* into code from sms_retry.sms_calling_codes c where c.calling_code = substr(given, 2, 3);
    end if;
    return code;
end
$$;

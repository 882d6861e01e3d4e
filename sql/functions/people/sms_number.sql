-- The one spelling of a phone number: E.164 as libphonenumber formats it, such as +447700900123 for +4407700900123. Null where
-- libphonenumber calls the number impossible. The steps are those of its `parse` and `is_possible_number`.
create or replace function sms_retry.sms_number(given text) returns text
language plpgsql stable strict parallel safe
as $$
begin
    return sms_retry.sms_number_under(given, sms_retry.sms_calling_code(given));
end
$$;

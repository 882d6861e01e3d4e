-- The country of a number as its calling code, such as +44. Countries that share +1 with the United States and Canada have
-- their area code too, such as +1876 (Jamaica), because a text to them has another price.
create or replace function sms_retry.sms_country(to_number text) returns text
language sql immutable parallel safe
as $$
    select substring(to_number from
        '^[+](?:1(?:242|246|26[48]|284|34[05]|441|473|649|658|664|67[01]|684|721|758|767|78[47]|809|829|849|868|869|876|939)'
        '|1|7|2[07]|3[0123469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]'
        '|2[1-689][0-9]|3[578][0-9]|42[0-9]|5[09][0-9]|6[7-9][0-9]|8[0578][0-9]|9[679][0-9])');
$$;

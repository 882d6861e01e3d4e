-- Whether a time zone is a name of the IANA list that this database knows. PostgreSQL alone also takes abbreviations (PST)
-- and offsets (UTC+3, FOO5), which the worker does not know.
create or replace function sms_retry.sms_zone_is_known(time_zone text) returns boolean
language plpgsql stable strict set search_path = sms_retry, pg_temp
as $$
begin
    -- Beside Etc/GMT+3, no name with a slash has a digit. The names without one are a closed list.
    if time_zone !~* ('^([a-z_]+(/[a-z_-]+)+|etc/gmt[+-]?[0-9]{1,2}'
        '|cet|cst6cdt|cuba|eet|egypt|eire|est|est5edt|factory|gb|gb-eire|gmt|gmt[+-]?0|greenwich|hongkong|hst|iceland|iran'
        '|israel|jamaica|japan|kwajalein|libya|met|mst|mst7mdt|navajo|nz|nz-chat|poland|portugal|prc|pst8pdt|roc|rok'
        '|singapore|turkey|uct|universal|utc|w-su|wet|zulu)$') then
        return false;
    end if;
    perform now() at time zone time_zone;
    return true;
exception when invalid_parameter_value then
    return false;
end
$$;

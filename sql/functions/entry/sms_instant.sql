-- The instant that a text names in ISO 8601 with an offset from UTC; null for any other text.
create or replace function sms_retry.sms_instant(given text) returns timestamptz
language plpgsql stable strict set search_path = sms_retry, pg_temp
as $$
begin
    if given !~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.]\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)$' then
        return null;
    end if;
    return given::timestamptz;
exception when datetime_field_overflow or invalid_datetime_format or invalid_time_zone_displacement_value then
    return null;
end
$$;

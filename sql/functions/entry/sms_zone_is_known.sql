-- Whether this database knows a time zone.
create or replace function sms_retry.sms_zone_is_known(time_zone text) returns boolean
language plpgsql stable strict set search_path = sms_retry, pg_temp
as $$
begin
    perform now() at time zone time_zone;
    return true;
exception when invalid_parameter_value then
    return false;
end
$$;

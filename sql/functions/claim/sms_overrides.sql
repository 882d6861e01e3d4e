-- The operator's own rules for codes and for sending hours: each is a row of its table, as JSON.
create or replace function sms_retry.sms_overrides() returns table (concerns text, rule json)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select 'codes', row_to_json(c) from sms_policy_overrides() c
    union all
    select 'hours', row_to_json(h) from sms_hours_overrides h;
$$;

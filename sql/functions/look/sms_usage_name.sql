-- The name of a row of usage in a report by day, business, sender, country, kind or code.
create or replace function sms_retry.sms_usage_name(dimension text, of sms_retry.sms_usage) returns text
language sql stable
as $$
    select case dimension
        when 'day' then to_char((of).day at time zone 'UTC', 'YYYY-MM-DD')
        when 'business' then (of).business_id
        when 'sender' then (of).sender
        when 'country' then (of).country
        when 'kind' then (of).kind
        when 'code' then coalesce((of).error_code::text, 'none')
    end;
$$;

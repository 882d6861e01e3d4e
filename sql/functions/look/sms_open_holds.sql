-- Lists the holds that are set, from the widest scope to the narrowest.
create or replace function sms_retry.sms_open_holds()
returns table (
    scope      text,
    key        text,
    masked_key text,
    until      timestamptz,
    reason     text,
    probing    boolean,
    opened_at  timestamptz
)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select scope, key, case scope when 'recipient' then masked_sms_number(key) else key end, until, reason,
        probe_id is not null, opened_at
    from sms_holds
    order by array_position(array['account', 'sender', 'country', 'business', 'batch', 'recipient'], scope), opened_at desc
    limit 200;
$$;

-- Clears a hold; returns false if no such hold is set.
create or replace function sms_retry.close_sms_hold(scope text, key text) returns boolean
language sql set search_path = sms_retry, pg_temp
as $$
    with closed as (
        delete from sms_holds h
        where h.scope = close_sms_hold.scope and (h.key = close_sms_hold.key
            or h.scope = 'recipient' and h.key = sms_number(close_sms_hold.key))
        returning 1
    )
    select exists (select from closed);
$$;

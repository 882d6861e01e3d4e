-- The businesses that an opt-out from these senders concerns: those whose senders they are, or '*', every business. A reply
-- names its number, and the Messaging Service of that number.
create or replace function sms_retry.sms_businesses_of(senders text[]) returns setof text
language sql stable set search_path = sms_retry, pg_temp
as $$
    with named as (
        select distinct s.business_id from sms_senders s where s.sender = any (senders) and s.business_id is not null
    )
    select business_id from named
    union all
    select '*' where not exists (select from named);
$$;

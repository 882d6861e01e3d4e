-- The business that an opt-out from one of these senders concerns: the one whose sender it is, or '*', every business.
create or replace function sms_retry.sms_business_of(senders text[]) returns text
language sql stable set search_path = sms_retry, pg_temp
as $$
    select coalesce((
        select s.business_id from sms_senders s
        where s.sender = any (senders) and s.business_id is not null
        order by array_position(senders, s.sender)
        limit 1), '*');
$$;

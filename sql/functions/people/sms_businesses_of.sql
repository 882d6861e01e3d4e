-- The businesses that an opt-out of a person from these senders concerns: those whose senders they are, and those that named one
-- of them for a message to the person; or '*', every business, where no business has them. The sender of the deployment is that
-- of every business. A reply names its number, and the Messaging Service of that number.
create or replace function sms_retry.sms_businesses_of(senders text[], phone_number text) returns setof text
language sql stable set search_path = sms_retry, pg_temp
as $$
    with owners as (
        select s.business_id from sms_senders s
        where s.sender = any (senders) and s.sender <> '*' and s.business_id is not null
    )
    select business_id from owners
    union
    select m.business_id from sms_messages m
    where m.to_number = sms_businesses_of.phone_number and m.sender = any (senders) and exists (select from owners)
    union
    select '*' where not exists (select from owners);
$$;

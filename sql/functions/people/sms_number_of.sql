-- The phone number of a message, for an action on its person.
create or replace function sms_retry.sms_number_of(message_id bigint) returns table (phone_number text)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select m.to_number from sms_messages m where m.id = sms_number_of.message_id;
$$;

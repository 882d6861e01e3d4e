-- Decides about unknown messages that Twilio's list does not have, as release 0.1 asks for it.
create or replace function sms_retry.release_unknown_sms(ids bigint[], attempts int[])
returns table (id bigint, status text)
language sql set search_path = sms_retry, pg_temp
as $$
    select * from decide_unknown_sms(ids, attempts, array_fill('absent'::text, array[cardinality(ids)]));
$$;

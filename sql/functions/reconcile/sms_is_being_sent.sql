-- Whether a message to this number is being sent at this moment: Twilio's list may have it before its attempt has its SID.
create or replace function sms_retry.sms_is_being_sent(to_number text) returns boolean
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select exists (
        select from sms_retry_queue q join sms_messages m on m.id = any (array[q.message_id])
        where q.status = 'processing' and m.to_number = sms_is_being_sent.to_number);
$$;

-- Returns silent messages that are due for a question to Twilio, as silent_sms_due, which release 0.1 calls, and the
-- subaccount to ask.
create or replace function sms_retry.silent_sms_to_ask(limit_count int default 100)
returns table (message_id bigint, provider_sid text, account text)
language sql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select due.message_id, due.provider_sid, s.account
    from silent_sms_due(limit_count) due
    join sms_messages m on m.id = any (array[due.message_id])
    left join sms_senders s on s.sender = any (array[coalesce(m.sender, '*')]);
$$;

-- Returns silent messages that are due for a question to Twilio: accepted, and without a final receipt since. The
-- caller has five minutes to record the answer; after that the message is due again.
create or replace function sms_retry.silent_sms_due(limit_count int default 100)
returns table (message_id bigint, provider_sid text)
language sql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_sort = off set jit = off
as $$
    with due as materialized (
        select id from sms_messages
        where status = 'sent' and ask_at <= now()
        order by ask_at
        limit limit_count
        for update skip locked
    )
    update sms_messages m set ask_at = now() + interval '5 minutes'
    from due where m.id = due.id
    returning m.id, m.provider_sid;
$$;

-- The messages that Twilio took and never spoke of again, and that it is to be asked about now; whoever asks has five
-- minutes to say that it did.
create or replace function sms_retry.silent_sms_due(limit_count int default 100)
returns table (message_id bigint, provider_sid text)
language sql set search_path = sms_retry, pg_temp
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

-- The messages that Twilio took and never spoke of again: asked about 1, 12, 24 and 72 hours after they were sent.
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
    update sms_messages m
    set ask_at = (
        select min(m.sent_at + step)
        from unnest(array[interval '12 hours', interval '24 hours', interval '72 hours']) as step
        where m.sent_at + step > now())
    from due where m.id = due.id
    returning m.id, m.provider_sid;
$$;

-- The sender of a message ('*': that of the deployment), its subaccount, its batch and its segments.
create or replace function sms_retry.sms_message_origin(message_id bigint)
returns table (sender text, account text, batch text, segments int)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select coalesce(m.sender, '*'), s.account, m.batch, m.segments
    from sms_messages m left join sms_senders s on s.sender = coalesce(m.sender, '*')
    where m.id = sms_message_origin.message_id;
$$;

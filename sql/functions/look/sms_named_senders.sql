-- The senders of these messages, without the messages that have the sender of the deployment.
create or replace function sms_retry.sms_named_senders(message_ids bigint[]) returns table (message_id bigint, sender text)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select m.id, m.sender
    from unnest(message_ids) as listed (id)
    join sms_messages m on m.id = listed.id
    where m.sender is not null;
$$;

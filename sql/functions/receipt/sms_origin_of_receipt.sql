-- The sender (null: that of the deployment) and the subaccount of the message that a receipt is about.
create or replace function sms_retry.sms_origin_of_receipt(message_sid text, ticket_id bigint)
returns table (sender text, account text)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select m.sender, s.account
    from sms_retry_queue q
    join sms_messages m on m.id = any (array[q.message_id])
    left join sms_senders s on s.sender = any (array[coalesce(m.sender, '*')])
    where q.id = coalesce((
        select a.queue_id from sms_attempts a where a.message_sid = sms_origin_of_receipt.message_sid), ticket_id);
$$;

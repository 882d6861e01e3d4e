-- Records one delivery receipt. Unlike record_sms_delivery, which release 0.1 calls, it also checks the recipient (told_to)
-- and the subaccount: a ticket counts only for its own message. After a restore of the database a ticket is given again.
create or replace function sms_retry.record_sms_receipt(
    message_sid text,
    status      text,
    error_code  int,
    ticket_id   bigint,
    attempt     int,
    delays      interval[],
    spends      boolean,
    reason      text,
    told_to     text,
    account     text = null
) returns text
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    is_of_ticket boolean := true;
begin
    -- Beside a SID that an attempt owns, which nearly every receipt has, the ticket is not read.
    if ticket_id is not null
        and not exists (select from sms_attempts a where a.message_sid = record_sms_receipt.message_sid)
    then
        -- Twilio writes the channel before a number, as in rcs:+14155550123.
        select sms_receipt_is_for(m.to_number, regexp_replace(told_to, '^[a-z]+:', ''))
            and s.account is not distinct from record_sms_receipt.account into is_of_ticket
        from sms_retry_queue q join sms_messages m on m.id = any (array[q.message_id])
        left join sms_senders s on s.sender = any (array[coalesce(m.sender, '*')])
        where q.id = ticket_id;
    end if;
    return record_sms_delivery(message_sid, status, error_code, ticket_id, case when is_of_ticket then attempt end,
        delays, spends, reason);
end
$$;

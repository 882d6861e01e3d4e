-- Makes one message due now by hand: a waiting message, a failed one, which gets one more try, or, only with force, an
-- unknown one. Any other message, and one with an erased text, stays unchanged. Returns whether the message is due.
create or replace function sms_retry.retry_sms_now(message_id bigint, force boolean = false) returns boolean
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    due boolean;
begin
    update sms_retry_queue q
    set status = 'pending', scheduled_for = now(), claimed_at = null, finished_at = null,
        reason = case when q.status = 'pending' then q.reason else 'by_hand' end,
        retry_count = q.retry_count + (q.status <> 'pending')::int,
        max_retries = case q.status when 'pending' then q.max_retries else q.retry_count + 1 end,
        -- The sender may have another lane than when the message failed.
        lane = sms_lane(m.kind, m.business_id, m.sender, m.media_urls is not null or m.content_sid is not null)
    from sms_messages m
    where q.message_id = retry_sms_now.message_id and m.id = q.message_id
        and (q.status in ('pending', 'failed') or q.status = 'unknown' and force) and not q.body_erased;
    due := found;

    -- An earlier release stored a number as it was given: opt-outs have its one spelling.
    update sms_messages m set status = 'queued', retry_count = q.retry_count, updated_at = now(),
        to_number = coalesce(sms_number(m.to_number), m.to_number)
    from sms_retry_queue q
    where due and m.id = retry_sms_now.message_id and q.message_id = m.id and m.status <> 'queued';
    return due;
end
$$;

-- Makes failed messages due now, with one more try each. The caller has locked their queue rows. Returns their number.
create or replace function sms_retry.requeue_sms(ids bigint[]) returns int
language plpgsql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
begin
    -- The sender may have another lane than when the message failed.
    update sms_retry_queue q
    set status = 'pending', scheduled_for = now(), finished_at = null, reason = 'by_hand',
        retry_count = q.retry_count + 1, max_retries = q.retry_count + 1,
        lane = sms_lane(m.kind, m.business_id, m.sender, m.media_urls is not null or m.content_sid is not null)
    from sms_messages m
    where q.id = any (ids) and m.id = any (array[q.message_id]);

    -- An earlier release stored a number as it was given: opt-outs have its one spelling.
    update sms_messages m set status = 'queued', retry_count = q.retry_count, updated_at = now(),
        to_number = coalesce(sms_number(m.to_number), m.to_number)
    from sms_retry_queue q
    where q.id = any (ids) and m.id = q.message_id;
    return coalesce(cardinality(ids), 0);
end
$$;

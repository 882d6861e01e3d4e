-- Brings the queue rows of a sender that wait, are claimed or unknown to the lanes that sms_lane says. A row that ended gets
-- its lane when it waits again: until then a receipt may need it.
create or replace function sms_retry.move_sms_of_sender(sender text) returns void
language sql set search_path = sms_retry, pg_temp
as $$
    with theirs as materialized (
        select q.id, sms_lane(m.kind, m.business_id, m.sender, m.media_urls is not null or m.content_sid is not null) as lane
        from sms_retry_queue q join sms_messages m on m.id = q.message_id
        where m.sender is not distinct from nullif(move_sms_of_sender.sender, '*')
            and q.status in ('pending', 'processing', 'unknown')
        order by q.id
        for update of q
    )
    update sms_retry_queue q set lane = t.lane from theirs t where q.id = t.id and q.lane <> t.lane;
$$;

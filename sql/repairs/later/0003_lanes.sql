-- Brings waiting messages that release 0.1 queued to the lanes of this release. The lane of release 0.1 is the hash of the
-- business: until then it may be in any rank. A row that is locked gets its lane when its message waits again.
with wrong as materialized (
    select q.id, l.lane
    from sms_retry.sms_retry_queue q
    join sms_retry.sms_messages m on m.id = q.message_id
    cross join lateral (
        select sms_retry.sms_lane(
            m.kind, m.business_id, m.sender, m.media_urls is not null or m.content_sid is not null) as lane
        offset 0
    ) l
    where q.message_id > %(after)s and q.message_id <= %(upto)s and q.status = 'pending'
        and q.lane = hashtext(m.business_id) and q.lane <> l.lane
    for update of q skip locked
)
update sms_retry.sms_retry_queue q set lane = w.lane from wrong w where q.id = w.id;

-- Brings waiting messages that release 0.1 queued to the lanes of this release, at most 5,000 at once. The lane of release 0.1
-- is the hash of the business: of each lane in use one message shows whether it is such a lane. Until then due_sms finds them
-- in the rank of marketing.
with recursive lanes as (
    (select q.lane, q.message_id from sms_retry.sms_retry_queue q where q.status = 'pending' order by q.lane limit 1)
    union all
    select next.lane, next.message_id
    from lanes l
    cross join lateral (
        select q.lane, q.message_id from sms_retry.sms_retry_queue q
        where q.status = 'pending' and q.lane > l.lane
        order by q.lane
        limit 1
    ) next
),
former as materialized (
    select l.lane from lanes l join sms_retry.sms_messages m on m.id = l.message_id where l.lane = hashtext(m.business_id)
),
wrong as materialized (
    select q.id, l.lane
    from sms_retry.sms_retry_queue q
    join sms_retry.sms_messages m on m.id = q.message_id
    cross join lateral (
        select sms_retry.sms_lane(
            m.kind, m.business_id, m.sender, m.media_urls is not null or m.content_sid is not null) as lane
        offset 0
    ) l
    where q.status = 'pending' and q.lane in (select lane from former) and q.lane = hashtext(m.business_id)
        and q.lane <> l.lane
    limit 5000
    for update of q skip locked
)
update sms_retry.sms_retry_queue q set lane = w.lane from wrong w where q.id = w.id;

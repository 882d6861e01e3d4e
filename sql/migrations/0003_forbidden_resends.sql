-- Release 0.1 recorded that a message must not be resent in on_unknown, which is the sender's wish. The reason of the
-- queue row records it now. This marks the unknown messages of people who opted out, if they are open or ended within a
-- day: older ones are on no list. A locked row is being settled.
with theirs as materialized (
    select q.id
    from sms_retry.sms_retry_queue q join sms_retry.sms_messages m on m.id = q.message_id
    where q.status = 'unknown' and q.reason is distinct from 'called_off'
        and (q.finished_at is null or q.finished_at > now() - interval '1 day' and not q.body_erased)
        and exists (
            select from sms_retry.sms_recipients r
            where r.phone_number = m.to_number and r.business_id in ('*', m.business_id) and r.consent = 'opted_out')
    for update of q skip locked
)
update sms_retry.sms_retry_queue q set reason = 'opted_out' from theirs where q.id = theirs.id;

-- After an opt-out from one business or ('*') from every business: each waiting message to the person fails, and no unknown
-- one is sent again. Returns how many messages failed.
create or replace function sms_retry.end_sms_of_refuser(business_id text, phone_number text) returns int
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    theirs  bigint[];
    stopped int;
begin
    -- The rows are locked in an earlier statement: an update of a row that was released after the start of its own
    -- statement would first be checked in its former version, and refused.
    select array_agg(id) into theirs from (
        -- A locked row is being claimed or settled: this claim or the next one sees the opt-out.
        select q.id
        from sms_retry_queue q join sms_messages m on m.id = q.message_id
        where m.to_number = end_sms_of_refuser.phone_number
            and end_sms_of_refuser.business_id in ('*', m.business_id)
            and q.status in ('pending', 'unknown')
        order by q.id
        for update of q skip locked
    ) locked;

    with unknown as (
        update sms_retry_queue q set reason = 'opted_out'
        where q.id = any (theirs) and q.status = 'unknown' and q.reason is distinct from 'called_off'
    ),
    ended as (
        update sms_retry_queue q set status = 'failed', reason = 'opted_out', finished_at = now()
        where q.id = any (theirs) and q.status = 'pending'
        returning q.message_id
    ),
    messages as (
        update sms_messages m set status = 'failed', updated_at = now()
        from ended where m.id = ended.message_id
        returning m.*
    ),
    events as (
        insert into sms_outbox (type, message_id, message_key, business_id, batch, error_code, reason)
        select m.status, m.id, m.message_key, m.business_id, m.batch, m.error_code, 'opted_out'
        from messages m where m.status in (select e.type from sms_event_types e)
    )
    select count(*) into stopped from ended;
    return stopped;
end
$$;

-- Erases a person: their messages, waiting or ended, with attempts, receipts and holds, at most 1,000 messages in one
-- call. A claimed message stays until its worker reports, and expires at once, so that no later claim sends it again.
-- An opt-out stays, so that no later message is sent to the person; every other consent is removed. Returns the number
-- of rows removed from each table, of messages left, and of those that are claimed (on_their_way).
create or replace function sms_retry.erase_sms_recipient(phone_number text) returns jsonb
language plpgsql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    locked bigint[];
    theirs bigint[];
    erased jsonb;
begin
    -- Earlier releases stored impossible numbers too. Such a number has only the given spelling.
    erase_sms_recipient.phone_number := coalesce(sms_number(erase_sms_recipient.phone_number),
        erase_sms_recipient.phone_number);

    select array_agg(id) into locked from (
        select q.id from sms_retry_queue q join sms_messages m on m.id = q.message_id
        where m.to_number = erase_sms_recipient.phone_number
        order by q.id
        for update of q
    ) rows;

    update sms_messages m set expires_at = now()
    from sms_retry_queue q where q.id = any (locked) and q.status = 'processing' and m.id = q.message_id;

    select array_agg(id) into theirs from (
        select m.id from sms_messages m left join sms_retry_queue q on q.message_id = m.id
        where m.to_number = erase_sms_recipient.phone_number
            and (q.id is null or q.id = any (locked) and q.status <> 'processing')
        limit 1000
    ) erasable;

    with queue as (
        delete from sms_retry_queue q where q.message_id = any (theirs) returning q.id
    ),
    attempts as (
        delete from sms_attempts a using queue where a.queue_id = queue.id returning a.message_sid
    ),
    messages as (
        delete from sms_messages m where m.id = any (theirs) returning m.provider_sid
    ),
    callbacks as (
        delete from sms_delivery_events e
        using (select message_sid from attempts union select provider_sid from messages) sids
        where e.message_sid = sids.message_sid
        returning 1
    ),
    events as (
        delete from sms_outbox o
        where o.message_id = any (theirs) or o.type = 'reply' and o.detail ->> 'from' = erase_sms_recipient.phone_number
    ),
    holds as (
        delete from sms_holds h where h.scope = 'recipient' and h.key = erase_sms_recipient.phone_number returning 1
    ),
    consents as (
        delete from sms_recipients r
        where r.phone_number = erase_sms_recipient.phone_number and r.consent <> 'opted_out'
        returning 1
    )
    select jsonb_build_object(
        'messages', (select count(*) from messages), 'attempts', (select count(*) from attempts),
        'callbacks', (select count(*) from callbacks), 'holds', (select count(*) from holds),
        'consents', (select count(*) from consents)) into erased;

    -- A START ends the opt-out still, and gives back no consent: the person's consents were erased.
    update sms_recipients r
    set time_zone = null, region = null, consent_before = case when r.consent_before is not null then 'unknown' end
    where r.phone_number = erase_sms_recipient.phone_number
        and (r.time_zone is not null or r.region is not null or r.consent_before = 'opted_in');

    return erased || (
        select jsonb_build_object('left', count(*), 'on_their_way', count(*) filter (where q.status = 'processing'))
        from sms_messages m left join sms_retry_queue q on q.message_id = m.id
        where m.to_number = erase_sms_recipient.phone_number);
end
$$;

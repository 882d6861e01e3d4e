-- Finds messages by a word: an id, an application's message_key, a SID, a batch (its latest message), or a phone number in
-- any spelling that sms_number knows (its latest message).
create or replace function sms_retry.found_sms(word text, number text) returns table (message_id bigint, found_by text)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set jit = off
as $$
    with recursive businesses as (
        -- Steps from business to business along the index of keys: its first column is business_id.
        (select business_id from sms_messages where message_key is not null order by business_id limit 1)
        union all
        select (select m.business_id from sms_messages m
            where m.message_key is not null and m.business_id > b.business_id order by m.business_id limit 1)
        from businesses b where b.business_id is not null
    ),
    -- Found first, then sorted, as in sms_of_same_person.
    theirs as materialized (
        select m.id from sms_messages m where m.to_number = coalesce(sms_number(found_sms.number), found_sms.number)
    )
    select m.id, 'id' from sms_messages m where m.id = case when word ~ '^[0-9]{1,18}$' then word::bigint end
    union all
    select m.id, 'key' from businesses b
    join sms_messages m on m.business_id = b.business_id and m.message_key = word
    union all
    select q.message_id, 'sid' from sms_attempts a join sms_retry_queue q on q.id = a.queue_id where a.message_sid = word
    union all
    select max(m.id), 'batch' from sms_messages m where m.batch = word having max(m.id) is not null
    union all
    select max(t.id), 'number' from theirs t having max(t.id) is not null;
$$;

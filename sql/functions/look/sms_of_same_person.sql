-- Lists the messages to this message's number, the latest first, one page at a time (after `before_id`).
create or replace function sms_retry.sms_of_same_person(message_id bigint, before_id bigint, limit_count int)
returns setof bigint
language sql stable set search_path = sms_retry, pg_temp
as $$
    -- Finds first, then sorts: a backward walk of the primary key for one person's messages may read the whole table.
    with theirs as materialized (
        select m.id from sms_messages m
        where m.to_number = (select n.to_number from sms_messages n where n.id = sms_of_same_person.message_id)
    )
    select id from theirs where id < before_id order by id desc limit limit_count;
$$;

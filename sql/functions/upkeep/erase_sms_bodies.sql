-- Erases the texts, media and variables of messages that ended more than days_old days ago, at most 5,000 in one call, the
-- oldest first. With 0 days a message that is sent or unknown keeps its text for a day, because it may be sent again. A
-- message without its text can never be sent again. Returns how many texts were erased: call it until it returns 0.
create or replace function sms_retry.erase_sms_bodies(days_old int) returns int
language plpgsql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_sort = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    erased int;
begin
    with ended as materialized (
        select id from sms_retry_queue
        where finished_at < now() - make_interval(days => days_old) and not body_erased
            and (days_old > 0 or status not in ('completed', 'unknown') or finished_at < now() - interval '1 day' or exists (
                select from sms_messages m where m.id = any (array[message_id]) and m.status = 'delivered' offset 0))
        order by finished_at
        limit 5000
        for update skip locked
    ),
    marked as (
        update sms_retry_queue q set body_erased = true from ended where q.id = ended.id returning q.message_id
    )
    update sms_messages m set body = null, media_urls = null, content_variables = null
    from marked where m.id = marked.message_id;
    get diagnostics erased = row_count;
    return erased;
end
$$;

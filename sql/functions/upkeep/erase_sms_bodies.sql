-- Erases the texts of messages that ended more than days_old days ago, at most 5,000 in one call, the oldest first. A
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
        order by finished_at
        limit 5000
        for update skip locked
    ),
    marked as (
        update sms_retry_queue q set body_erased = true from ended where q.id = ended.id returning q.message_id
    )
    update sms_messages m set body = null from marked where m.id = marked.message_id;
    get diagnostics erased = row_count;
    return erased;
end
$$;

-- Removes messages that ended more than days_old days ago and have no queue row. One call looks at 5,000 messages, by id after
-- after_id, and passes over locked ones. Returns how many were removed, and the id to go on after: null when the next messages
-- are younger.
create or replace function sms_retry.remove_old_sms(days_old int, after_id bigint default 0)
returns table (removed int, next_id bigint)
language plpgsql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off
set enable_mergejoin = off set jit = off
as $$
declare
    before timestamptz := now() - make_interval(days => days_old);
begin
    return query
    with seen as materialized (
        select id, created_at, updated_at from sms_messages where id > after_id order by id limit 5000
    ),
    old as materialized (
        select m.id from seen s
        join sms_messages m on m.id = any (array[s.id])
        where s.created_at < before and s.updated_at < before
            and not exists (select from sms_retry_queue q where q.message_id = any (array[s.id]) offset 0)
        for update of m skip locked
    ),
    gone as (
        delete from sms_messages m using old where m.id = any (array[old.id]) returning 1
    )
    select (select count(*)::int from gone), case when min(s.created_at) < before then max(s.id) end from seen s;
end
$$;

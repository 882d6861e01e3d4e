-- Lists the messages that ended with the status `ending` from `since` on, the latest first, one page at a time: the
-- page starts after the row (before, before_id). With a code it lists only the messages with that code.
create or replace function sms_retry.ended_sms(
    ending      text,
    code        int,
    since       timestamptz,
    before      timestamptz,
    before_id   bigint,
    limit_count int
) returns setof bigint
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
    -- One index has the rows with a text, and another has those without it. Of the branches with and without a code only
    -- one of each pair runs: a single branch for both cases could not use the index to find a code.
    select message_id from (
        (select message_id, finished_at, id from sms_retry_queue
        where code is null and status = ending and finished_at >= since and not body_erased
            and (finished_at, id) < (before, before_id)
        order by finished_at desc, id desc limit limit_count)
        union all
        (select message_id, finished_at, id from sms_retry_queue
        where last_error_code = code and status = ending and finished_at >= since and not body_erased
            and (finished_at, id) < (before, before_id)
        order by finished_at desc, id desc limit limit_count)
        union all
        (select message_id, finished_at, id from sms_retry_queue
        where code is null and status = ending and finished_at >= since and body_erased
            and (finished_at, id) < (before, before_id)
        order by finished_at desc, id desc limit limit_count)
        union all
        (select message_id, finished_at, id from sms_retry_queue
        where last_error_code = code and status = ending and finished_at >= since and body_erased
            and (finished_at, id) < (before, before_id)
        order by finished_at desc, id desc limit limit_count)
    ) ended
    order by finished_at desc, id desc limit limit_count;
$$;

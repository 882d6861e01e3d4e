-- The messages that ended in this way since then, with this code where one is given, the latest first, from behind the
-- row of the queue that ended `before`.
create or replace function sms_retry.ended_sms(
    ending      text,
    code        int,
    since       timestamptz,
    before      timestamptz,
    before_id   bigint,
    limit_count int
) returns setof bigint
language sql stable set search_path = sms_retry, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
    -- Only one of the two runs. In one, a code could not be looked for in the index.
    (select message_id from sms_retry_queue
    where code is null and status = ending and finished_at >= since and not body_erased
        and (finished_at, id) < (before, before_id)
    order by finished_at desc, id desc limit limit_count)
    union all
    (select message_id from sms_retry_queue
    where last_error_code = code and status = ending and finished_at >= since and not body_erased
        and (finished_at, id) < (before, before_id)
    order by finished_at desc, id desc limit limit_count);
$$;

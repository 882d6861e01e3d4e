-- Gives messages that failed for this reason between two instants one more try each, as requeue_failed_sms does for a
-- code: no_code, unlisted, retries_spent and so on, with any code or without one.
create or replace function sms_retry.requeue_sms_of_reason(
    reason      text,
    since       timestamptz,
    until       timestamptz = null,
    limit_count int = 1000
) returns int
language plpgsql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_sort = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    ids bigint[];
begin
    with failed as materialized (
        select q.id
        from sms_retry_queue q join sms_messages m on m.id = q.message_id
        where q.status = 'failed' and not q.body_erased and q.reason = requeue_sms_of_reason.reason
            and q.finished_at >= since and q.finished_at < coalesce(until, now())
            and q.reason <> 'called_off' and m.expires_at > now()
        order by q.finished_at desc
        limit limit_count
        for update of q skip locked
    )
    select array_agg(id) into ids from failed;
    return requeue_sms(ids);
end
$$;

-- Gives messages that failed with this code between two instants one more try each: at most limit_count, the latest
-- first. Messages that have expired, were called off or lost their text are left out. Returns how many are due now:
-- call it until it returns 0.
create or replace function sms_retry.requeue_failed_sms(
    error_code  int,
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
        where q.status = 'failed' and not q.body_erased and q.last_error_code = requeue_failed_sms.error_code
            and q.finished_at >= since and q.finished_at < coalesce(until, now())
            and q.reason is distinct from 'called_off' and m.expires_at > now()
        order by q.finished_at desc
        limit limit_count
        for update of q skip locked
    )
    select array_agg(id) into ids from failed;

    update sms_retry_queue q
    set status = 'pending', scheduled_for = now(), finished_at = null, reason = 'by_hand',
        retry_count = q.retry_count + 1, max_retries = q.retry_count + 1
    where q.id = any (ids);

    update sms_messages m set status = 'queued', retry_count = q.retry_count, updated_at = now()
    from sms_retry_queue q
    where q.id = any (ids) and m.id = q.message_id;
    return coalesce(cardinality(ids), 0);
end
$$;

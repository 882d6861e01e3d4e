-- Gives messages that failed with this code between two instants one more try each: at most limit_count, the latest
-- first. Without a code: those whose failure has none, as after an answer that was not Twilio's. Messages that have
-- expired, were called off or lost their text are left out. Returns how many are due now: call it until it returns 0.
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
        where q.status = 'failed' and not q.body_erased
            and q.last_error_code is not distinct from requeue_failed_sms.error_code
            and q.finished_at >= since and q.finished_at < coalesce(until, now())
            and q.reason is distinct from 'called_off' and m.expires_at > now()
            -- A person's refusal is no failure that a repeat could mend, and has no code.
            and (requeue_failed_sms.error_code is not null or q.reason is distinct from 'opted_out')
        order by q.finished_at desc
        limit limit_count
        for update of q skip locked
    )
    select array_agg(id) into ids from failed;
    return requeue_sms(ids);
end
$$;

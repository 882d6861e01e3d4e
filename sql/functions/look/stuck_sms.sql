-- The messages that somebody should look at, at most so many of each: due for more than two minutes; claimed for longer
-- than a worker lives; unknown, and being asked about; and those of the last day that ended so and wait for a person.
-- Not those that were called off.
create or replace function sms_retry.stuck_sms(limit_count int) returns setof bigint
language sql stable set search_path = sms_retry, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
    (select message_id from sms_retry_queue
    where status = 'unknown' and finished_at > now() - interval '1 day' and not body_erased
        and reason is distinct from 'called_off'
    order by finished_at desc limit limit_count)
    union all
    (select message_id from sms_retry_queue
    where status = 'processing' and claimed_at < now() - interval '5 minutes'
    order by claimed_at limit limit_count)
    union all
    (select message_id from sms_retry_queue
    where status = 'pending' and scheduled_for < now() - interval '2 minutes'
    order by scheduled_for, id limit limit_count)
    union all
    (select message_id from sms_retry_queue
    where status = 'unknown' and finished_at is null and reason is distinct from 'called_off'
    order by scheduled_for limit limit_count);
$$;

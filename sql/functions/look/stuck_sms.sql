-- Lists the messages that need attention, at most limit_count of each kind: ended as unknown within the last day, which
-- wait for a person; claimed for longer than a worker runs; overdue for more than two minutes; unknown, while Twilio is
-- asked. Messages that must not be resent are left out, as in held_sms.
create or replace function sms_retry.stuck_sms(limit_count int) returns setof bigint
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
    (select message_id from sms_retry_queue
    where status = 'unknown' and finished_at > now() - interval '1 day' and not body_erased
        and not sms_resend_forbidden(reason)
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
    where status = 'unknown' and finished_at is null and not sms_resend_forbidden(reason)
    order by scheduled_for limit limit_count);
$$;

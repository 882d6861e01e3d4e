-- Lists the unknown messages that wait for a person: those that ended as unknown within the last day, and the parked
-- ones, about which Twilio is still asked. Messages that must not be resent are left out: no decision is open.
create or replace function sms_retry.held_sms() returns setof bigint
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off
set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select message_id from sms_retry_queue
    where status = 'unknown' and finished_at > now() - interval '1 day' and not body_erased
        and not sms_resend_forbidden(reason)
    union all
    select q.message_id from sms_retry_queue q join sms_messages m on m.id = q.message_id
    where q.status = 'unknown' and q.finished_at is null and not sms_resend_forbidden(q.reason)
        and (m.on_unknown = 'hold' or q.reason = 'held');
$$;

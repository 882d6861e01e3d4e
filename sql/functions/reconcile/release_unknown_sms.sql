-- Decides about unknown messages that Twilio's list does not know. Thirty minutes after the claim a message with
-- on_unknown = 'resend' is sent again, which spends a retry; without a retry left, or after its expiry, it ends as
-- unknown. A parked message, and one that must not be resent, ends as unknown after 72 hours.
create or replace function sms_retry.release_unknown_sms(ids bigint[], attempts int[])
returns table (id bigint, status text)
language plpgsql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
begin
    perform from sms_retry_queue q where q.id = any (ids) order by q.id for update;

    return query
    with released as materialized (
        select q.id,
            m.on_unknown = 'resend' and not sms_resend_forbidden(q.reason)
                and q.retry_count < q.max_retries and m.expires_at > now() as again
        from unnest(ids, attempts) as t (id, attempt)
        join sms_retry_queue q on q.id = t.id
        join sms_messages m on m.id = q.message_id
        where q.attempt = t.attempt and q.status = 'unknown' and q.finished_at is null
            and q.claimed_at < now() - case
                when m.on_unknown = 'resend' and not sms_resend_forbidden(q.reason) then interval '30 minutes'
                else interval '72 hours'
            end
    ),
    message as (
        update sms_messages m set status = 'queued', retry_count = m.retry_count + 1, updated_at = now()
        from released r join sms_retry_queue q on q.id = r.id
        where r.again and m.id = q.message_id
    )
    update sms_retry_queue q
    set status = case when r.again then 'pending' else 'unknown' end,
        claimed_at = case when not r.again then q.claimed_at end,
        scheduled_for = now(),
        retry_count = q.retry_count + r.again::int,
        reason = case when r.again then 'unknown' when sms_resend_forbidden(q.reason) then q.reason else 'held' end,
        finished_at = case when not r.again then now() end
    from released r
    where q.id = r.id
    returning q.id, q.status;
end
$$;

-- Decides about unknown messages that Twilio's list does not settle, 30 minutes after their claim. The findings:
--   absent    the list was trusted and does not have the message. With on_unknown = 'resend' it is sent again, which
--             spends a retry; without a retry left, or after its expiry, it ends as unknown
--   stranger  the list has a message to this number that no attempt owns: it may be this one, rewritten, so this one is
--             parked
--   unsure    the list was not trusted, or was not read to its end: nothing changes
-- Every message ends as unknown, for a person to decide, when it was claimed 72 hours ago and is not sent again.
create or replace function sms_retry.decide_unknown_sms(ids bigint[], attempts int[], findings text[])
returns table (id bigint, status text)
language plpgsql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
begin
    perform from sms_retry_queue q where q.id = any (ids) order by q.id for update;

    return query
    with waited as materialized (
        select q.id, t.finding, q.claimed_at < now() - interval '72 hours' as is_over,
            m.on_unknown = 'resend' and not sms_resend_forbidden(q.reason)
                and q.reason is distinct from 'held' as may_resend,
            q.retry_count < q.max_retries and m.expires_at > now() as has_a_retry
        from unnest(ids, attempts, findings) as t (id, attempt, finding)
        join sms_retry_queue q on q.id = t.id
        join sms_messages m on m.id = q.message_id
        where q.attempt = t.attempt and q.status = 'unknown' and q.finished_at is null
            and sms_unknown_has_waited(q.claimed_at)
    ),
    decided as materialized (
        select w.id, case
            when w.finding = 'absent' and w.may_resend and w.has_a_retry then 'again'
            when w.finding = 'absent' and w.may_resend or w.is_over then 'over'
            when w.finding = 'stranger' and w.may_resend then 'parked'
        end as becomes
        from waited w
    ),
    message as (
        update sms_messages m set status = 'queued', retry_count = m.retry_count + 1, updated_at = now()
        from decided d join sms_retry_queue q on q.id = d.id
        where d.becomes = 'again' and m.id = q.message_id
    ),
    events as (
        insert into sms_outbox (type, message_id, message_key, business_id, batch, error_code, reason)
        select 'unknown', m.id, m.message_key, m.business_id, m.batch, m.error_code,
            case when sms_resend_forbidden(q.reason) then q.reason else 'held' end
        from decided d
        join sms_retry_queue q on q.id = d.id
        join sms_messages m on m.id = q.message_id
        where d.becomes = 'over' and exists (select from sms_event_types e where e.type = 'unknown')
    )
    update sms_retry_queue q
    set status = case when d.becomes = 'again' then 'pending' else 'unknown' end,
        claimed_at = case when d.becomes <> 'again' then q.claimed_at end,
        scheduled_for = case when d.becomes = 'parked' then q.scheduled_for else now() end,
        retry_count = q.retry_count + (d.becomes = 'again')::int,
        reason = case
            when d.becomes = 'again' then 'unknown'
            when sms_resend_forbidden(q.reason) then q.reason
            else 'held'
        end,
        finished_at = case when d.becomes = 'over' then now() end
    from decided d
    where q.id = d.id and d.becomes is not null
    returning q.id, q.status;
end
$$;

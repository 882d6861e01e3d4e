-- Judges reports of every kind by the present state of their messages, and records the result. finish_sms_retries
-- explains the arguments.
create or replace function sms_retry.settle_sms_reports(
    ids            bigint[],
    attempts       int[],
    outcomes       text[],
    message_sids   text[],
    error_codes    int[],
    error_messages text[],
    http_statuses  int[],
    request_ids    text[],
    delays         text[],
    spends         boolean[],
    reasons        text[]
) returns table (id bigint, attempt int, message_id bigint, status text, scheduled_for timestamptz)
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
begin
    -- The rows are locked before they are judged, in the order of finish_sms_retries, so that no two functions deadlock.
    -- Rows of stale reports are not locked: their holder may wait for a row that finish_sms_retries locked in this
    -- transaction, and the two would deadlock.
    perform from unnest(ids, attempts, outcomes) as t (id, attempt, outcome)
    join sms_retry_queue q on q.id = any (array[t.id])
    where q.attempt = t.attempt or t.outcome = 'delivered'
    order by t.id
    for update of q;

    return query
    with reports as materialized (
        select t.id, t.attempt, t.outcome, t.sid, t.code, t.message, t.http_status, t.request_id, t.reason,
            coalesce(t.spends, true) and t.outcome <> 'deferred' as spends, t.delays::interval[] as delays,
            t.outcome in ('delivered', 'undelivered', 'failed', 'canceled') as is_receipt
        from unnest(ids, attempts, outcomes, message_sids, error_codes, error_messages, http_statuses, request_ids,
                    delays, spends, reasons)
            as t (id, attempt, outcome, sid, code, message, http_status, request_id, delays, spends, reason)
    ),
    believed as materialized (
        select t.*, q.message_id, q.status as was, q.attempt as latest, q.doubted_since, q.reason as reason_was, q.body_erased,
            m.status as message_was, m.expires_at,
            given.back as given_back,
            -- A person may clear the hold or raise the budget: the message waits until it expires.
            case when t.outcome = 'deferred' and t.reason in ('hold', 'budget', 'daily_limit') and q.claimed_at < m.expires_at
                    and next.try >= m.expires_at
                then m.expires_at - interval '1 second'
                else next.try
            end as next_try
        from reports t
        join sms_retry_queue q on q.id = any (array[t.id])
        -- A retry was spent to send an unknown message again. The report comes before that send, which is not needed.
        cross join lateral (
            select (q.status = 'pending' and q.reason is not distinct from 'unknown' and t.attempt = q.attempt)::int as back) given
        join sms_messages m on m.id = any (array[q.message_id])
        cross join lateral (
            select sms_next_try(t.outcome, t.delays, t.spends, q.retry_count - given.back, q.max_retries, q.claimed_at,
                resend_forbidden => q.body_erased or sms_resend_forbidden(q.reason)) as try) next
        where sms_report_is_believed(t.outcome, t.attempt, q.attempt, q.status, m.status, is_accepted => exists (
                select from sms_attempts a where a.queue_id = t.id and a.attempt = t.attempt and a.outcome = 'accepted'
                offset 0),
            explains => t.code is not null and (q.reason = 'no_code'
                or q.reason = 'called_off' and q.status = 'failed' and q.last_error_code is null))
    ),
    judged as materialized (
        select n.*, after.status as becomes, (after.status = 'pending' and n.spends)::int - n.given_back as spent,
            case
                when sms_resend_forbidden(n.reason_was) then n.reason_was
                when after.status in ('completed', 'processing') then null
                when after.status = 'failed' and cardinality(n.delays) > 0
                    then case when n.body_erased then 'body_erased' else 'retries_spent' end
                else coalesce(n.reason, case when n.outcome = 'opted_out' then 'opted_out' end)
            end as reason_after
        from believed n
        cross join lateral (select sms_status_after(n.outcome, n.attempt, n.latest, n.was, n.message_was, n.next_try,
            n.expires_at, n.doubted_since is not null) as status) after
    ),
    attempted as (
        insert into sms_attempts
            (queue_id, attempt, outcome, message_sid, error_code, error_message, http_status, twilio_request_id)
        select j.id, j.attempt, case when j.is_receipt then 'accepted' else j.outcome end, j.sid,
            case when not j.is_receipt then j.code end, case when not j.is_receipt then j.message end,
            j.http_status, j.request_id
        from judged j
        where j.outcome in ('accepted', 'refused', 'unknown') or j.is_receipt
        on conflict (queue_id, attempt, outcome) do nothing
    ),
    probed as (
        delete from sms_holds h using judged j
        where h.probe_id = j.id and h.probe_attempt = j.attempt
            and case h.cleared_by
                -- Only Twilio's final status shows that the cause is gone. A failure shows it too, unless it has no code
                -- or concerns more than its message.
                when 'receipt' then j.outcome = 'delivered'
                    or j.outcome in ('undelivered', 'failed') and j.spends and j.code is not null
                else j.outcome = 'accepted' or j.is_receipt or j.outcome = 'refused' and (
                    -- An answer of Twilio other than 503, such as 429, shows that Twilio is up.
                    j.spends or h.reason = 'twilio_down' and j.http_status <> 503
                        and (j.code is not null or j.http_status = 429))
            end
    ),
    handed_back as (
        update sms_holds h set until = now(), probe_id = null, probe_attempt = null
        from judged j
        where h.probe_id = j.id and h.probe_attempt = j.attempt
            and j.outcome in ('deferred', 'expired', 'opted_out', 'not_sent')
    ),
    returned as (
        -- A message that was not sent gives its segments back. A sender from which a claim draws at this moment is passed
        -- over: the two could wait for each other.
        update sms_senders s
        set tokens = sms_tokens(s.segments_per_second, s.tokens, s.filled_at) + back.segments,
            filled_at = greatest(now(), s.filled_at)
        from (
            select coalesce(m.sender, '*') as sender, sum(coalesce(m.segments, 1)) as segments
            from judged j join sms_messages m on m.id = any (array[j.message_id])
            where j.outcome in ('deferred', 'expired', 'opted_out', 'not_sent') and j.was = 'processing'
            group by 1
        ) back
        cross join lateral (
            select l.sender from sms_senders l where l.sender = back.sender and l.segments_per_second > 0
            for update skip locked
        ) own
        where s.sender = any (array[own.sender])
    ),
    message as (
        update sms_messages m
        set status = case
                when m.status = 'delivered' or j.outcome = 'delivered' then 'delivered'
                when j.becomes = 'completed' then 'sent'
                when j.becomes = 'pending' then 'queued'
                when j.becomes = 'failed' and j.outcome = 'undelivered' then 'undelivered'
                else j.becomes
            end,
            provider_sid = case when j.attempt = j.latest then coalesce(j.sid, m.provider_sid)
                else coalesce(m.provider_sid, j.sid) end,
            -- A message that is on its way, or arrived, has no error.
            error_code = case when j.outcome not in ('accepted', 'delivered') and m.status <> 'delivered'
                then coalesce(j.code, m.error_code) end,
            error_message = case when j.outcome not in ('accepted', 'delivered') and m.status <> 'delivered'
                then coalesce(j.message, m.error_message) end,
            retry_count = m.retry_count + j.spent,
            -- As in finish_sms_retries.
            ask_at = case when j.outcome = 'accepted' then now() + least(interval '1 hour', (
                    select min(h.wait) / 2 from sms_holds h
                    where (h.probe_id, h.probe_attempt) = (j.id, j.attempt) and h.cleared_by = 'receipt'))
                else m.ask_at end,
            sent_at = case when j.outcome = 'accepted' then now() when j.is_receipt then coalesce(m.sent_at, now())
                else m.sent_at end,
            delivered_at = case when j.outcome = 'delivered' then now() else m.delivered_at end,
            updated_at = now()
        from judged j
        where m.id = any (array[j.message_id])
        returning m.id, m.message_key, m.business_id, m.batch, m.status, m.error_code, j.reason_after as reason,
            -- A failure whose cause Twilio names later is news too.
            m.status <> j.message_was or j.was = 'failed' as is_news,
            m.sender, m.to_number, m.kind, m.sent_at, sms_billed_segments(m.segments, m.body) as segments,
            j.outcome, j.code, j.sid, j.was,
            -- The statement does not see what `attempted` inserts.
            (j.outcome = 'accepted' or j.is_receipt) and not exists (
                select from sms_attempts a where a.queue_id = j.id and a.attempt = j.attempt and a.outcome = 'accepted'
                offset 0) as is_accepted
    ),
    counted as (
        insert into sms_usage (day, business_id, sender, country, kind, outcome, error_code, seconds, messages, segments)
        select date_trunc('day', n.at, 'UTC'), m.business_id, coalesce(m.sender, '*'), sms_country(m.to_number), m.kind,
            n.outcome, n.code, n.seconds, sum(n.change), sum(n.change * m.segments)
        from message m
        cross join lateral sms_usage_changes(m.outcome, m.code, m.sid, m.sent_at, m.is_accepted,
            explains => m.was = 'failed') n
        group by 1, 2, 3, 4, 5, 6, 7, 8
    ),
    events as (
        insert into sms_outbox (type, message_id, message_key, business_id, batch, error_code, reason)
        select m.status, m.id, m.message_key, m.business_id, m.batch, m.error_code, m.reason
        from message m
        -- Twilio is asked about a message that becomes unknown here: it has not ended.
        where exists (select from sms_event_types) and m.is_news and m.status <> 'unknown'
            and m.status in (select e.type from sms_event_types e)
    )
    update sms_retry_queue q
    set status = j.becomes,
        scheduled_for = case j.becomes
            -- set_sms_budget may have made a claimed message due.
            when 'pending' then least(j.next_try, case when j.reason = 'budget' then q.budget_until end)
            when 'unknown' then now() + interval '1 minute'
            else q.scheduled_for
        end,
        retry_count = q.retry_count + j.spent,
        claimed_at = case when j.becomes in ('processing', 'unknown') then coalesce(q.claimed_at, now()) end,
        -- The ticket of the claim that was lost with the database.
        attempt = q.attempt + (j.was = 'completed' and j.becomes = 'unknown')::int,
        reason = j.reason_after,
        last_error_code = coalesce(j.code, q.last_error_code),
        -- Since the claim the sender may have got another lane, and release 0.1 has lanes of its own.
        lane = case when j.becomes in ('pending', 'unknown') then (
                select sms_lane(m.kind, m.business_id, m.sender, m.media_urls is not null or m.content_sid is not null)
                from sms_messages m where m.id = j.message_id)
            else q.lane end,
        finished_at = case
            when j.becomes in ('pending', 'processing', 'unknown') then null
            when j.becomes = j.was then q.finished_at
            else now()
        end
    from judged j
    where q.id = any (array[j.id])
    returning q.id, j.attempt, q.message_id, q.status, q.scheduled_for;

    if exists (select from sms_budgets) then
        perform return_sms_budgets(ids, attempts, outcomes);
    end if;
end
$$;

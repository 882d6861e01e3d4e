-- Claims the rows that the caller has locked. Each gets a new ticket, and comes back, in the caller's order, with all
-- that a worker needs to judge and send it. When the time of a hold is up, the first message in its scope
-- becomes its probe, and the hold continues for all other messages.
create or replace function sms_retry.claim_locked_sms(ids bigint[]) returns setof sms_retry.sms_claim
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    has_holds    boolean := exists (select from sms_holds);
    has_limits   boolean := exists (select from sms_limits);
    has_budgets  boolean := exists (select from sms_budgets);
    has_accounts boolean := exists (select from sms_senders where account is not null);
begin
    if exists (select from sms_holds where until <= now()) then
        update sms_holds h
        set until = now() + h.wait, probe_id = probe.id, probe_attempt = probe.attempt
        from (
            select distinct on (o.scope, o.key) o.scope, o.key, q.id, q.attempt + 1 as attempt
            from sms_retry_queue q
            join sms_messages m on m.id = any (array[q.message_id])
            cross join lateral (
                select w.scope, w.key from sms_holds_on(m.to_number, m.sender, m.business_id, m.batch) w
                where w.until <= now()
            ) o
            where q.id = any (ids)
            order by o.scope, o.key, q.scheduled_for, q.id
        ) probe
        where h.scope = probe.scope and h.key = probe.key and h.until <= now();
    end if;

    if has_limits then
        -- Two claims at once must not each find room for the same person's last message.
        perform pg_advisory_xact_lock(hashtextextended(person.to_number, 0)) from (
            select distinct m.to_number from sms_retry_queue q join sms_messages m on m.id = any (array[q.message_id])
            where q.id = any (ids)
            order by m.to_number
        ) person;
    end if;

    if has_budgets then
        perform reserve_sms_budgets(ids);
    end if;

    return query
    with taken as (
        update sms_retry_queue q
        set status = 'processing', attempt = q.attempt + 1, claimed_at = now(), reason = null,
            doubted_since = null
        where q.id = any (ids)
        returning q.id, q.attempt, q.message_id, q.claimed_at, q.budget_until
    ),
    -- The messages of this claim, and those that other workers have claimed; read only for the limits.
    in_flight as materialized (
        select q.id, true as in_claim, m.to_number, m.business_id, m.kind
        from sms_retry_queue q join sms_messages m on m.id = any (array[q.message_id])
        where q.id = any (ids)
        union all
        select q.id, false, m.to_number, m.business_id, m.kind
        from sms_retry_queue q join sms_messages m on m.id = any (array[q.message_id])
        where q.status = 'processing' and q.id <> all (ids)
    )
    select q.id, q.attempt, m.id, m.business_id, m.to_number::text, m.body::text, m.kind::text, m.time_zone,
        coalesce(own.time_zone, everybodys.time_zone),
        sms_consent(own.consent, everybodys.consent),
        m.expires_at,
        case when has_holds then (
            -- While a probe is out its answer is near: wait a minute for that answer, not for the whole hold.
            select max(case when h.probe_id is not null and h.until - h.wait > now() - interval '5 minutes'
                then least(h.until, now() + interval '1 minute') else h.until end)
            from sms_holds_on(m.to_number, m.sender, m.business_id, m.batch) h
            where (h.probe_id, h.probe_attempt) is distinct from (q.id, q.attempt)
        ) end,
        -- A worker of release 0.1 defers a message beyond a budget as one beyond a limit.
        greatest(case when has_budgets then q.budget_until end,
            case when has_limits and m.kind <> 'emergency' then (
            -- Counts the other messages of the last `per`, and those that are about to be sent: the earlier ones of this claim,
            -- and then also the claimed ones of other workers, which may not be sent. Ten minutes later that is known.
            select max(case when before.includes_others and until.at > now() + interval '10 minutes'
                then now() + interval '10 minutes' else until.at end)
            from sms_limits l
            cross join lateral (
                select sms_region(coalesce(own.region, everybodys.region), m.to_number) as code offset 0
            ) region
            cross join lateral (
                select unnest(array[count(*) filter (where o.in_claim), count(*)]) as n,
                    unnest(array[false, true]) as includes_others
                from in_flight o
                where o.to_number = m.to_number and (o.id < q.id or not o.in_claim)
                    and l.business_id in ('*', o.business_id)
                    and l.kind in ('*', o.kind) and o.kind <> 'emergency'
            ) before
            cross join lateral (
                select coalesce(
                    (select sent.sent_at + l.per from sms_messages sent
                        where sent.to_number = m.to_number and l.business_id in ('*', sent.business_id)
                            and l.kind in ('*', sent.kind) and sent.kind <> 'emergency' and sent.sent_at > now() - l.per
                            and sent.id <> m.id
                        order by sent.sent_at desc offset greatest(l.messages_a_day - before.n, 1) - 1 limit 1),
                    case when before.n >= l.messages_a_day then now() + l.per end) as at
            ) until
            where l.business_id in ('*', m.business_id) and l.kind in ('*', m.kind)
                -- A limit of US concerns US-FL too.
                and (l.region = '*' or l.region in (region.code, split_part(region.code, '-', 1)))
        ) end),
        q.claimed_at,
        coalesce(own.region, everybodys.region),
        m.sender,
        case when has_accounts then (select s.account from sms_senders s where s.sender = coalesce(m.sender, '*')) end,
        m.segments, m.media_urls, m.content_sid, m.content_variables::text,
        case when has_budgets then q.budget_until end
    from taken q
    join sms_messages m on m.id = any (array[q.message_id])
    left join sms_recipients own
        on own.phone_number = any (array[m.to_number]) and own.business_id = any (array[m.business_id])
    left join sms_recipients everybodys
        on everybodys.phone_number = any (array[m.to_number]) and everybodys.business_id = '*'
    order by array_position(ids, q.id);
end
$$;

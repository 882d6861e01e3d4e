-- Takes in up to 10,000 messages at once, as queue_sms_retry takes in one. `messages` is an array of objects with the fields of
-- send_sms: to, body and optionally message_key, business_id, kind, on_unknown, time_zone, scheduled_for, expires_at, sender,
-- batch, media_urls, content_sid and content_variables. `batch` is the batch of messages that name none. Returns a row for each
-- place in the array, from 1: the message with its status, or the fault for which nothing was stored.
create or replace function sms_retry.queue_sms_retries(messages jsonb, batch text = null)
returns table (place int, message_id bigint, status text, fault text)
language plpgsql security definer set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
<<this>>
declare
    places   int[];
    ids      bigint[];
    statuses text[];
    faults   text[];
begin
    if (case when jsonb_typeof(messages) = 'array' then jsonb_array_length(messages) between 1 and 10000 end) is not true then
        raise exception 'nothing was stored: messages must be an array of 1 to 10000 objects'
            using errcode = 'invalid_parameter_value';
    end if;

    with elements as materialized (
        select e.message, e.place, e.message ->> 'to' as given
        from jsonb_array_elements(messages) with ordinality e (message, place)
    ),
    -- Nearly all numbers of a batch begin alike, and are complete without a trunk prefix: they need no look of sms_number_under.
    codes as materialized (
        select c.start, c.code,
            '^[+]' || (c.code).calling_code || coalesce('(?!' || (c.code).trunk_prefix || ')', '') || '[0-9]+$' as plain,
            array(select length((c.code).calling_code) + 1 + n from unnest((c.code).lengths) n where n between 2 and 12) as lengths
        from (
            select each.start, sms_calling_code(each.start) as code
            from (select distinct left(e.given, 4) as start from elements e) each
            offset 0
        ) c
    ),
    given as (
        select e.place,
            -- Nearly every message has valid fields only: one look is faster than the list of its faults.
            case when (jsonb_typeof(e.message) = 'object'
                    and e.message - '{to,body,message_key,kind,expires_at,scheduled_for}'::text[] = '{}'
                    and jsonb_typeof(e.message -> 'to') = 'string' and jsonb_typeof(e.message -> 'body') = 'string'
                    and coalesce(jsonb_typeof(e.message -> 'kind'), 'null') in ('string', 'null')
                    and coalesce(jsonb_typeof(e.message -> 'message_key'), 'null') in ('string', 'null')
                    and coalesce(jsonb_typeof(e.message -> 'expires_at'), 'null') in ('string', 'null')
                    and coalesce(jsonb_typeof(e.message -> 'scheduled_for'), 'null') in ('string', 'null')
                    and coalesce(char_length(e.message ->> 'message_key'), 1) between 1 and 255) is not true
                then sms_field_faults(e.message) end as fault,
            case when e.given ~ c.plain and length(e.given) = any (c.lengths) then e.given
                else sms_number_under(e.given, c.code) end as to_number,
            coalesce(sms_text(e.message ->> 'body'),
                case when coalesce(e.message ->> 'media_urls', e.message ->> 'content_sid') is not null then '' end) as body,
            e.message ->> 'message_key' as message_key,
            coalesce(e.message ->> 'business_id', 'default') as business_id,
            coalesce(e.message ->> 'kind', 'transactional') as kind,
            coalesce(e.message ->> 'on_unknown', 'resend') as on_unknown,
            e.message ->> 'time_zone' as time_zone,
            sms_instant(e.message ->> 'scheduled_for') as scheduled_for,
            sms_instant(e.message ->> 'expires_at') as expires_at,
            e.message ->> 'scheduled_for' is not null as is_scheduled,
            e.message ->> 'expires_at' is not null as expires,
            e.message ->> 'sender' as sender,
            coalesce(e.message ->> 'batch', queue_sms_retries.batch) as batch,
            case jsonb_typeof(e.message -> 'media_urls')
                when 'array' then array(select jsonb_array_elements_text(e.message -> 'media_urls'))
                when 'null' then null
                else case when e.message ? 'media_urls' then '{}'::text[] end
            end as media_urls,
            e.message ->> 'content_sid' as content_sid,
            nullif(e.message -> 'content_variables', 'null') as content_variables
        from elements e
        left join codes c on c.start = left(e.given, 4)
        offset 0
    ),
    checked as materialized (
        select g.*, nullif(concat_ws('; ', g.fault,
            sms_message_faults(g.to_number, g.body, g.business_id, g.kind, g.on_unknown, g.scheduled_for, g.expires_at,
                g.sender, g.batch, g.media_urls, g.content_sid, g.content_variables),
            case when g.is_scheduled and g.scheduled_for is null or g.expires and g.expires_at is null
                then 'scheduled_for and expires_at must be ISO 8601 times with an offset from UTC' end,
            case when g.time_zone is not null and not sms_zone_is_known(g.time_zone)
                then 'time_zone must be an IANA time zone that this database knows, such as America/New_York' end), '') as why
        from given g
    ),
    -- Of messages with the same key, the first is stored.
    keyed as materialized (
        select c.*, coalesce(first.place, c.place) as first_place
        from checked c
        left join (
            select g.business_id, g.message_key, min(g.place) as place
            from checked g where g.why is null and g.message_key is not null group by 1, 2
        ) first on first.business_id = c.business_id and first.message_key = c.message_key
        where c.why is null
    ),
    -- A batch has few businesses.
    businesses as materialized (
        select each.business_id, s.sender
        from (select distinct k.business_id from keyed k) each
        join sms_senders s on s.business_id = any (array[each.business_id])
    ),
    fresh as materialized (
        select nextval('sms_messages_id_seq') as id, k.*, coalesce(
            sms_consent(own.consent, everybodys.consent) = 'opted_out'
                or k.kind = 'marketing' and sms_consent(own.consent, everybodys.consent) <> 'opted_in', false) as opted_out,
            nullif(coalesce(k.sender, k.sender_of_business), '*') as origin,
            k.media_urls is not null or k.content_sid is not null as has_parts
        from (
            select keyed.*, b.sender as sender_of_business
            from keyed left join businesses b on b.business_id = keyed.business_id
            where keyed.place = keyed.first_place
            order by keyed.place
        ) k
        left join sms_recipients own
            on own.phone_number = any (array[k.to_number]) and own.business_id = any (array[k.business_id])
        left join sms_recipients everybodys
            on everybodys.phone_number = any (array[k.to_number]) and everybodys.business_id = '*'
    ),
    -- Nearly all messages of a batch share a lane.
    lanes as materialized (
        select each.*, sms_lane(each.kind, each.business_id, each.origin, each.has_parts) as lane
        from (select distinct f.kind, f.business_id, f.origin, f.has_parts from fresh f) each
    ),
    inserted as (
        insert into sms_messages
            (id, message_key, business_id, to_number, body, kind, on_unknown, time_zone, expires_at, status,
             sender, batch, segments, media_urls, content_sid, content_variables)
        overriding system value
        select f.id, f.message_key, f.business_id, f.to_number, f.body, f.kind, f.on_unknown, f.time_zone,
            coalesce(f.expires_at, greatest(now(), f.scheduled_for) + interval '3 days'), case when f.opted_out then 'failed' else 'queued' end,
            f.origin, f.batch, sms_segments(f.body), f.media_urls, f.content_sid, f.content_variables
        from fresh f
        -- Two calls with the same keys insert them in the same order, so that they do not deadlock.
        order by f.business_id collate "C", f.message_key collate "C", f.place
        on conflict (business_id, message_key) where message_key is not null do nothing
        returning sms_messages.id, sms_messages.status
    ),
    queued as (
        insert into sms_retry_queue (message_id, lane, status, scheduled_for, reason, finished_at)
        select f.id, l.lane, case when f.opted_out then 'failed' else 'pending' end,
            coalesce(f.scheduled_for, now()), case when f.opted_out then 'opted_out' end,
            case when f.opted_out then now() end
        from inserted i
        join fresh f on f.id = i.id
        join lanes l on l.kind = f.kind and l.business_id = f.business_id and l.has_parts = f.has_parts
            and coalesce(l.origin, '*') = coalesce(f.origin, '*')
        order by f.id
    ),
    events as (
        insert into sms_outbox (type, message_id, message_key, business_id, batch, reason)
        select 'failed', f.id, f.message_key, f.business_id, f.batch, 'opted_out'
        from inserted i join fresh f on f.id = i.id
        where f.opted_out and exists (select from sms_event_types e where e.type = 'failed')
        order by f.id
    )
    select array_agg(c.place order by c.place), array_agg(coalesce(i.id, stored.id) order by c.place),
        array_agg(coalesce(i.status, stored.status) order by c.place),
        array_agg(coalesce(c.why, case when not coalesce(stored.is_same, i.id is null or f.place = c.place
                or f.to_number = c.to_number and sms_has_same_parts(f.body, f.media_urls, f.content_sid, f.content_variables,
                    c.body, c.media_urls, c.content_sid, c.content_variables))
            then 'message_key belongs to a message with another to_number, body, media or content template' end) order by c.place)
    into this.places, this.ids, this.statuses, this.faults
    from checked c
    left join keyed k on k.place = c.place
    left join fresh f on f.place = k.first_place
    left join inserted i on i.id = f.id
    -- The message that was stored under this key before.
    left join lateral (
        select m.id, m.status, m.to_number = c.to_number and sms_has_same_parts(m.body, m.media_urls, m.content_sid,
            m.content_variables, c.body, c.media_urls, c.content_sid, c.content_variables) as is_same
        from sms_messages m
        where i.id is null and c.why is null and m.business_id = c.business_id and m.message_key = c.message_key
        offset 0
    ) stored on true;

    if num_nulls(variadic ids) = 0 and num_nonnulls(variadic faults) = 0 then
        return query select * from unnest(places, ids, statuses, faults);
        return;
    end if;
    return query
    select t.place,
        case when coalesce(t.fault, late.fault) is null then coalesce(t.id, late.id) end,
        case when coalesce(t.fault, late.fault) is null then coalesce(t.status, late.status) end,
        coalesce(t.fault, late.fault)
    from unnest(places, ids, statuses, faults) as t (place, id, status, fault)
    -- Another transaction stored this key after the statement above began.
    left join lateral (
        select m.id, m.status, case when m.to_number <> sms_number(given.message ->> 'to')
                or m.body <> coalesce(sms_text(given.message ->> 'body'), '')
                or m.content_sid is distinct from given.message ->> 'content_sid'
                or m.body is not null and (to_jsonb(m.media_urls), m.content_variables) is distinct from
                    (nullif(given.message -> 'media_urls', 'null'), nullif(given.message -> 'content_variables', 'null'))
            then 'message_key belongs to a message with another to_number, body, media or content template' end as fault
        from (values (messages -> t.place - 1)) given (message)
        join sms_messages m on m.business_id = coalesce(given.message ->> 'business_id', 'default')
            and m.message_key = given.message ->> 'message_key'
        where t.id is null and t.fault is null
        offset 0
    ) late on true;
end
$$;

-- Brings the numbers that earlier releases stored to their one spelling: those of consents and holds, and of the messages that
-- may still be sent, which must meet them. An impossible number stays as it is. Only a number that goes on with the trunk
-- prefix of its calling code can have a second spelling, so one regular expression passes over nearly every row before
-- sms_number is called.
do $$
declare
    suspects text := (
        select '^[+](?:' || string_agg(calling_code || '(?:' || trunk_prefix || ')', '|') || ')'
        from sms_retry.sms_calling_codes where trunk_prefix is not null);
    given   text[];
    spelled text[];
begin
    -- Of the consents of one person to one business, a refusal stays, or else an opt-in; of these the newest one.
    select array_agg(s.given), array_agg(s.spelled) into given, spelled from (
        select r.phone_number as given, sms_retry.sms_number(r.phone_number) as spelled
        from (select distinct phone_number from sms_retry.sms_recipients where phone_number ~ suspects offset 0) r
    ) s where s.spelled <> s.given;

    with ranked as materialized (
        select r.phone_number, r.business_id, person.spelled, r.time_zone,
            first_value(r.phone_number) over best as kept,
            max(r.time_zone) over (partition by person.spelled, r.business_id) as any_time_zone
        from (
            select s.given, s.spelled from unnest(given, spelled) s (given, spelled)
            union
            select s.spelled, s.spelled from unnest(spelled) s (spelled)
        ) person
        join sms_retry.sms_recipients r on r.phone_number = person.given
        window best as (
            partition by person.spelled, r.business_id
            order by array_position(array['opted_out', 'opted_in', 'unknown'], r.consent),
                r.consent_changed_at desc nulls last, r.phone_number)
    ),
    merged as (
        delete from sms_retry.sms_recipients r using ranked
        where r.phone_number = ranked.phone_number and r.business_id = ranked.business_id
            and ranked.phone_number <> ranked.kept
    )
    update sms_retry.sms_recipients r set time_zone = ranked.any_time_zone
    from ranked
    where r.phone_number = ranked.phone_number and r.business_id = ranked.business_id
        and ranked.phone_number = ranked.kept and r.time_zone is null and ranked.any_time_zone is not null;

    update sms_retry.sms_recipients r set phone_number = s.spelled
    from unnest(given, spelled) s (given, spelled) where r.phone_number = s.given;

    -- Of the holds on one person the longest stays.
    select array_agg(s.given), array_agg(s.spelled) into given, spelled from (
        select h.key as given, sms_retry.sms_number(h.key) as spelled
        from sms_retry.sms_holds h where h.scope = 'recipient' and h.key ~ suspects offset 0
    ) s where s.spelled <> s.given;

    with ranked as materialized (
        select h.key, first_value(h.key) over (partition by person.spelled order by h.until desc, h.key) as kept
        from (
            select s.given, s.spelled from unnest(given, spelled) s (given, spelled)
            union
            select s.spelled, s.spelled from unnest(spelled) s (spelled)
        ) person
        join sms_retry.sms_holds h on h.scope = 'recipient' and h.key = person.given
    )
    delete from sms_retry.sms_holds h using ranked
    where h.scope = 'recipient' and h.key = ranked.key and ranked.key <> ranked.kept;

    update sms_retry.sms_holds h set key = s.spelled
    from unnest(given, spelled) s (given, spelled) where h.scope = 'recipient' and h.key = s.given;

    -- The subquery keeps the order: sms_number costs much more than the regular expression.
    update sms_retry.sms_messages m set to_number = s.spelled
    from (
        select id, to_number, sms_retry.sms_number(to_number) as spelled
        from (
            select m.id, m.to_number from sms_retry.sms_messages m where m.status = 'sent' and m.to_number ~ suspects
            union all
            select m.id, m.to_number from sms_retry.sms_retry_queue q join sms_retry.sms_messages m on m.id = q.message_id
            where q.finished_at is null and m.to_number ~ suspects
            offset 0
        ) suspected
    ) s
    where m.id = s.id and s.spelled <> s.to_number;
end
$$;

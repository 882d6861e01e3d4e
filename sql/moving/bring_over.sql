-- Brings over the consents, zones, waiting rows and SIDs of another service, as celery.sql or cron.sql shows them. Both files run
-- in one transaction: docs/moving.md. A later run brings over the rows that are new since the last.

-- The tables of this service may be empty so far: without statistics, the planner would read all of them for each row.
set local enable_seqscan = off;

-- The rows that this run moved, and (with a fault) those that stay in the old tables.
create temporary table if not exists moved (kind text, key text, fault text);
truncate moved;

-- Opt-outs come first, so that every opt-out of a person counts. One that is older than a consent of this service does not.
do $$
declare
    c record;
begin
    for c in
        select o.business_id, o.phone_number, bool_or(o.by_stop) as by_stop, max(coalesce(o.changed_at, now())) as changed_at
        from old_consents o
        where o.consent = 'opted_out'
        group by 1, 2
    loop
        if sms_retry.sms_number(c.phone_number) is null then
            insert into moved values ('opt-out', c.business_id || ' ' || right(c.phone_number, 4), 'this is no phone number');
        elsif not exists (
            select from sms_retry.sms_recipients r
            where r.phone_number = sms_retry.sms_number(c.phone_number) and r.business_id = c.business_id
                and (r.consent = 'opted_out' or r.consent_changed_at >= c.changed_at))
        then
            perform sms_retry.set_sms_consent(c.business_id, c.phone_number, 'opted_out');
            update sms_retry.sms_recipients r set consent_before = 'unknown'
            where r.phone_number = sms_retry.sms_number(c.phone_number) and r.business_id = c.business_id and c.by_stop;
            insert into moved values ('opt-out', c.business_id || ' ' || right(c.phone_number, 4));
        end if;
    end loop;
end
$$;

-- Opt-ins and zones. They change nothing that this service knows already.
insert into sms_retry.sms_recipients as r (business_id, phone_number, consent, consent_changed_at, time_zone)
select o.business_id, spelled.number, case when bool_or(o.consent = 'opted_in') then 'opted_in' else 'unknown' end,
    max(o.changed_at), max(o.time_zone) filter (where sms_retry.sms_zone_is_known(o.time_zone))
from old_consents o
cross join lateral sms_retry.sms_number(o.phone_number) spelled (number)
where spelled.number is not null
group by 1, 2
on conflict (phone_number, business_id) do update
    set consent = case when r.consent = 'unknown' then excluded.consent else r.consent end,
        time_zone = coalesce(r.time_zone, excluded.time_zone);

-- Waiting rows. One with a SID failed after Twilio had accepted it: a late receipt of this SID ends its wait.
do $$
declare
    w        record;
    moved_id bigint;
    queue_id bigint;
begin
    for w in select * from old_waiting order by scheduled_for loop
        begin
            if w.provider_sid is null then
                moved_id := sms_retry.queue_sms_retry(w.to_number, w.body, message_key => w.message_key,
                    business_id => w.business_id, kind => w.kind, scheduled_for => w.scheduled_for, expires_at => w.expires_at,
                    error_code => w.error_code);
            else
                moved_id := sms_retry.log_sent_sms(w.provider_sid, w.to_number, w.body, message_key => w.message_key,
                    business_id => w.business_id, kind => w.kind, expires_at => w.expires_at);
                perform sms_retry.record_sms_delivery(w.provider_sid, 'undelivered', w.error_code,
                    delays => array[interval '1 minute', interval '5 minutes', interval '15 minutes']);
            end if;
            perform pg_temp.take_old_row(w.row_id);
            insert into moved values (case when w.in_flight_since is null then 'waiting' else 'in flight' end, w.message_key);
        exception when others then
            insert into moved values ('waiting', w.message_key, sqlerrm);
            continue;
        end;

        update sms_retry.sms_retry_queue q
        set retry_count = least(w.sends, q.max_retries), scheduled_for = greatest(w.scheduled_for, now())
        where q.message_id = moved_id and q.status = 'pending' and q.attempt = 0
        returning q.id into queue_id;
        update sms_retry.sms_messages m set retry_count = q.retry_count
        from sms_retry.sms_retry_queue q where q.id = queue_id and m.id = q.message_id;

        -- Sent without an answer: an attempt with an unknown outcome. Twilio is asked about messages since in_flight_since.
        -- The attempt that may not have happened spends no retry.
        if w.in_flight_since is not null and queue_id is not null then
            update sms_retry.sms_retry_queue q
            set status = 'unknown', attempt = 1, max_retries = q.max_retries + 1, claimed_at = now(), scheduled_for = now(),
                doubted_since = w.in_flight_since - interval '1 minute'
            where q.id = queue_id;
            insert into sms_retry.sms_attempts (queue_id, attempt, outcome, error_message)
            values (queue_id, 1, 'unknown', 'the service before this one was sending it');
            update sms_retry.sms_messages m set status = 'unknown' where m.id = moved_id;
        end if;
    end loop;
end
$$;

-- SIDs, so that no other message of the same text is taken for them, and late failures are retried. A person about whose
-- unknown message Twilio is asked waits for a later run: one of these SIDs may be the answer.
do $$
declare
    s record;
begin
    for s in
        select o.* from old_sent o
        where not exists (select from sms_retry.sms_attempts a where a.message_sid = o.provider_sid)
            and not exists (
                select from sms_retry.sms_messages m
                where m.to_number = sms_retry.sms_number(o.to_number) and m.status = 'unknown')
    loop
        begin
            perform sms_retry.log_sent_sms(s.provider_sid, s.to_number, s.body, message_key => s.message_key,
                business_id => s.business_id, kind => s.kind, expires_at => s.sent_at + interval '3 days');
            if s.status <> 'sent' then
                perform sms_retry.record_sms_delivery(s.provider_sid, case s.status when 'failed' then 'undelivered' else s.status end,
                    s.error_code);
            end if;
            insert into moved values ('SID', s.message_key);
        exception when others then
            insert into moved values ('SID', s.message_key, sqlerrm);
        end;
    end loop;
end
$$;

do $$
begin
    perform pg_temp.give_back_opt_outs();
end
$$;

select m.kind, coalesce(m.fault, 'moved') as result, count(*), min(m.key) as example from moved m group by 1, 2 order by 1, 2;

-- Shows the tables of a cron route to bring_over.sql. Edit this file: the names of your tables and columns are here only.
-- It expects, in the schema public:
--   customers         id, business_id, phone, sms_consent_status, timezone, updated_at
--   send_logs         id, business_id, customer_id, body, message_type, twilio_sid, status, error_code text, created_at
--   sms_retry_queue   id, send_log_id, reason, attempt_count (sends that were made), scheduled_for, status, updated_at

-- Until the end of the transaction the old service neither queues nor takes a row.
lock table public.sms_retry_queue in share row exclusive mode;

-- A number in any spelling. Ten digits are a number of +1: change this for another country.
create or replace function pg_temp.phone_number(given text) returns text language sql as $$
    select case when digits ~ '^[0-9]{10}$' then '+1' || digits else '+' || ltrim(digits, '+') end
    from (select regexp_replace(given, '[^0-9+]', '', 'g')) spelled (digits);
$$;

-- The code of Twilio in a text, or null.
create or replace function pg_temp.twilio_code(given text) returns int language sql as $$
    select case when given ~ '^[0-9]{5}$' then given::int end;
$$;

-- by_stop: the person sent a STOP, so that a START ends the opt-out.
create or replace temporary view old_consents as
select pg_temp.phone_number(c.phone) as phone_number, c.business_id::text as business_id,
    case when c.sms_consent_status in ('opted_in', 'opted_out') then c.sms_consent_status else 'unknown' end as consent,
    true as by_stop, c.updated_at as changed_at, c.timezone as time_zone
from public.customers c
where c.phone is not null;

-- sends: how often the message was sent and failed. in_flight_since: since then it may have been sent without an answer. A row
-- that is being processed is in flight, and so is a row that waits after a timeout.
create or replace temporary view old_waiting as
select q.id as row_id, 'cron-' || q.id as message_key, l.business_id::text as business_id,
    pg_temp.phone_number(c.phone) as to_number, l.body,
    case l.message_type when 'marketing' then 'marketing' else 'transactional' end as kind, q.scheduled_for, l.created_at + interval '3 days' as expires_at, q.attempt_count as sends,
    pg_temp.twilio_code(l.error_code) as error_code, l.twilio_sid as provider_sid,
    case when q.status = 'processing' or q.reason in ('timeout', 'network_error') then q.updated_at end as in_flight_since
from public.sms_retry_queue q
join public.send_logs l on l.id = q.send_log_id
join public.customers c on c.id = l.customer_id
where q.status in ('pending', 'processing');

-- The SIDs of three days. status: delivered, failed (never sent again), or sent (Twilio is asked, and a failure is retried).
create or replace temporary view old_sent as
select 'cron-log-' || l.id as message_key, l.business_id::text as business_id, pg_temp.phone_number(c.phone) as to_number,
    l.body, case l.message_type when 'marketing' then 'marketing' else 'transactional' end as kind,
    l.twilio_sid as provider_sid, l.created_at as sent_at,
    case when l.status = 'delivered' then 'delivered'
        when l.status in ('failed', 'undelivered')
            -- The row of the queue is its retry.
            or exists (select from public.sms_retry_queue q where q.send_log_id = l.id) then 'failed'
        else 'sent' end as status,
    pg_temp.twilio_code(l.error_code) as error_code
from public.send_logs l
join public.customers c on c.id = l.customer_id
where l.twilio_sid is not null and l.created_at > now() - interval '3 days';

-- Takes a row from the old service, so that it never sends the row.
create or replace function pg_temp.take_old_row(row_id bigint) returns void language sql as $$
    update public.sms_retry_queue q set status = 'failed', reason = 'moved' where q.id = take_old_row.row_id;
$$;

-- Gives the old service the opt-outs that this one knows.
create or replace function pg_temp.give_back_opt_outs() returns void language sql as $$
    with person as materialized (
        select c.id, c.business_id::text as business_id, sms_retry.sms_number(pg_temp.phone_number(c.phone)) as phone_number
        from public.customers c where c.sms_consent_status <> 'opted_out'
    )
    update public.customers c set sms_consent_status = 'opted_out'
    from person p join sms_retry.sms_recipients r on r.phone_number = p.phone_number
    where c.id = p.id and r.business_id in ('*', p.business_id) and r.consent = 'opted_out';
$$;

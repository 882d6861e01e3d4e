-- Shows the tables of a Celery service to bring_over.sql. Edit this file: the names of your tables and columns are here only.
-- It expects, in the schema public:
--   users             id int, phone_number, sms_enabled, timezone, updated_at
--   sms_usage_logs    id, user_id, phone_number, message, message_sid, status, error_code text, created_at
--   sms_retry_queue   id, user_id, phone_number, message, message_sid (of the last send), status, error_code text,
--                     retry_count (retries that were made), next_retry_at, created_at, updated_at

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

-- by_stop: the person sent a STOP, so that a START ends the opt-out. The code 21610 is Twilio's answer after a STOP.
create or replace temporary view old_consents as
select pg_temp.phone_number(u.phone_number) as phone_number, '*' as business_id,
    case when u.sms_enabled then 'opted_in' when not u.sms_enabled then 'opted_out' else 'unknown' end as consent,
    false as by_stop, u.updated_at as changed_at, u.timezone as time_zone
from public.users u
where u.phone_number is not null
union all
select pg_temp.phone_number(l.phone_number), '*', 'opted_out', true, max(l.created_at), null
from public.sms_usage_logs l
where l.error_code = '21610'
group by 1;

-- sends: how often the message was sent and failed. in_flight_since: since then it may have been sent without an answer. A row
-- that is being retried is in flight, and so is a row whose last error is not Twilio's, such as a timeout.
create or replace temporary view old_waiting as
select q.id as row_id, 'celery-' || q.id as message_key, 'default' as business_id,
    pg_temp.phone_number(q.phone_number) as to_number, q.message as body, 'transactional' as kind,
    q.next_retry_at as scheduled_for, q.created_at + interval '3 days' as expires_at, q.retry_count + 1 as sends,
    pg_temp.twilio_code(q.error_code) as error_code, q.message_sid as provider_sid,
    case when q.status = 'retrying' or q.error_code is not null and pg_temp.twilio_code(q.error_code) is null
        then q.updated_at end as in_flight_since
from public.sms_retry_queue q
where q.status in ('pending', 'retrying');

-- The SIDs of three days. status: delivered, failed (never sent again), or sent (Twilio is asked, and a failure is retried).
create or replace temporary view old_sent as
select 'celery-log-' || l.id as message_key, 'default' as business_id, pg_temp.phone_number(l.phone_number) as to_number,
    l.message as body, 'transactional' as kind, l.message_sid as provider_sid, l.created_at as sent_at,
    case when l.status = 'delivered' then 'delivered'
        when l.status in ('failed', 'undelivered') or exists (
            -- The row of the queue is its retry.
            select from public.sms_retry_queue q where q.phone_number = l.phone_number and q.message = l.message)
            then 'failed'
        else 'sent' end as status,
    pg_temp.twilio_code(l.error_code) as error_code
from public.sms_usage_logs l
where l.message_sid is not null and l.created_at > now() - interval '3 days';

-- Takes a row from the old service, so that it never sends the row.
create or replace function pg_temp.take_old_row(row_id bigint) returns void language sql as $$
    update public.sms_retry_queue q set status = 'failed', error_code = 'moved' where q.id = take_old_row.row_id;
$$;

-- Gives the old service the opt-outs that this one knows.
create or replace function pg_temp.give_back_opt_outs() returns void language sql as $$
    with person as materialized (
        select u.id, sms_retry.sms_number(pg_temp.phone_number(u.phone_number)) as phone_number
        from public.users u where u.sms_enabled is distinct from false
    )
    update public.users u set sms_enabled = false
    from person p join sms_retry.sms_recipients r on r.phone_number = p.phone_number
    where u.id = p.id and r.business_id in ('*', 'default') and r.consent = 'opted_out';
$$;

-- The messages that may have been sent and wait for a person: those that are held, and those that ended so within a day.
-- Not those that were called off, nor those whose person wants none.
create or replace function sms_retry.held_sms() returns setof bigint
language sql stable set search_path = sms_retry, pg_temp
set enable_seqscan = off set enable_bitmapscan = off
set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select m.id
    from (
        select message_id, reason, false as has_ended from sms_retry_queue
        where status = 'unknown' and finished_at is null
        union all
        select message_id, reason, true from sms_retry_queue
        where status = 'unknown' and finished_at > now() - interval '1 day' and not body_erased
    ) q
    join sms_messages m on m.id = q.message_id
    where (has_ended or m.on_unknown = 'hold')
        and q.reason is distinct from 'called_off'
        and not exists (
            select from sms_recipients r
            where r.phone_number = m.to_number and r.business_id in ('*', m.business_id) and r.consent = 'opted_out');
$$;

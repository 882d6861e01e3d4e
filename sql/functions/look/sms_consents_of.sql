-- The consents of this message's person, one row a business; '*' is every business.
create or replace function sms_retry.sms_consents_of(message_id bigint)
returns table (business_id text, consent text, consent_changed_at timestamptz, time_zone text)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select r.business_id, r.consent, r.consent_changed_at, r.time_zone
    from sms_messages m join sms_recipients r on r.phone_number = m.to_number
    where m.id = sms_consents_of.message_id
    order by r.business_id
    limit 100;
$$;

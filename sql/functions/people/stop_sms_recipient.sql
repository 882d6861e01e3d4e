-- Opts out, from one business or ('*') from every business, a person who sent a STOP, and keeps the consent that this takes
-- away: a START gives it back. Returns how many waiting messages failed.
create or replace function sms_retry.stop_sms_recipient(business_id text, phone_number text) returns int
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
begin
    insert into sms_recipients (business_id, phone_number, consent, consent_before, consent_changed_at)
    values (stop_sms_recipient.business_id, stop_sms_recipient.phone_number, 'opted_out', 'unknown', now())
    on conflict (phone_number, business_id) do update
        set consent = 'opted_out', consent_before = sms_recipients.consent, consent_changed_at = now()
        where sms_recipients.consent <> 'opted_out';

    return end_sms_of_refuser(stop_sms_recipient.business_id, stop_sms_recipient.phone_number);
end
$$;

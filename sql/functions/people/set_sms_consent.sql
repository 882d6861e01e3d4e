-- Records a person's consent to one business or ('*') to every business. After an opt-out each waiting message to the
-- person fails, and no unknown one is sent again. Returns how many messages failed. A START does not end this opt-out.
create or replace function sms_retry.set_sms_consent(business_id text, phone_number text, consent text) returns int
language plpgsql security definer set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
begin
    set_sms_consent.phone_number := sms_number(set_sms_consent.phone_number);
    if set_sms_consent.phone_number is null then
        raise exception 'nothing was stored: phone_number must be a phone number in E.164, such as +14155550123'
            using errcode = 'invalid_parameter_value';
    end if;
    insert into sms_recipients (business_id, phone_number, consent, consent_changed_at)
    values (set_sms_consent.business_id, set_sms_consent.phone_number, set_sms_consent.consent, now())
    on conflict (phone_number, business_id) do update
        set consent = excluded.consent, consent_before = null, consent_changed_at = excluded.consent_changed_at
        where sms_recipients.consent <> excluded.consent or sms_recipients.consent_before is not null;

    if set_sms_consent.consent <> 'opted_out' then
        return 0;
    end if;
    return end_sms_of_refuser(set_sms_consent.business_id, set_sms_consent.phone_number);
end
$$;

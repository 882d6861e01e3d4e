-- Records a person's consent to one business or ('*') to every business. After an opt-out each waiting message to the
-- person fails, and no unknown one is sent again. Returns how many messages failed.
create or replace function sms_retry.set_sms_consent(business_id text, phone_number text, consent text) returns int
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    stopped int;
begin
    set_sms_consent.phone_number := sms_number(set_sms_consent.phone_number);
    if set_sms_consent.phone_number is null then
        raise exception 'nothing was stored: phone_number must be a phone number in E.164, such as +14155550123'
            using errcode = 'invalid_parameter_value';
    end if;
    insert into sms_recipients (business_id, phone_number, consent, consent_changed_at)
    values (set_sms_consent.business_id, set_sms_consent.phone_number, set_sms_consent.consent, now())
    on conflict (phone_number, business_id) do update
        set consent = excluded.consent, consent_changed_at = excluded.consent_changed_at
        where sms_recipients.consent <> excluded.consent;

    if set_sms_consent.consent <> 'opted_out' then
        return 0;
    end if;

    with theirs as materialized (
        -- A locked row is being claimed or settled: this claim or the next one sees the opt-out.
        select q.id, q.message_id, q.status
        from sms_retry_queue q join sms_messages m on m.id = q.message_id
        where m.to_number = set_sms_consent.phone_number
            and set_sms_consent.business_id in ('*', m.business_id)
            and q.status in ('pending', 'unknown')
        order by q.id
        for update of q skip locked
    ),
    unknown as (
        update sms_retry_queue q set reason = 'opted_out'
        from theirs where q.id = theirs.id and theirs.status = 'unknown' and q.reason is distinct from 'called_off'
    ),
    ended as (
        update sms_retry_queue q set status = 'failed', reason = 'opted_out', finished_at = now()
        from theirs where q.id = theirs.id and theirs.status = 'pending'
        returning q.message_id
    ),
    messages as (
        update sms_messages m set status = 'failed', updated_at = now()
        from ended where m.id = ended.message_id
    )
    select count(*) into stopped from ended;
    return stopped;
end
$$;

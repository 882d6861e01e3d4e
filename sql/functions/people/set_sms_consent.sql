-- Writes down that a person agreed or refused, to one business or ('*') to all. Whatever waits for somebody who refused
-- ends as failed; what may have been sent already is not sent again.
create or replace function sms_retry.set_sms_consent(business_id text, phone_number text, consent text) returns int
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    stopped int;
begin
    insert into sms_recipients (business_id, phone_number, consent, consent_changed_at)
    values (set_sms_consent.business_id, set_sms_consent.phone_number, set_sms_consent.consent, now())
    on conflict (phone_number, business_id) do update
        set consent = excluded.consent, consent_changed_at = excluded.consent_changed_at
        where sms_recipients.consent <> excluded.consent;

    if set_sms_consent.consent <> 'opted_out' then
        return 0;
    end if;

    with theirs as materialized (
        -- A row that somebody has locked is being claimed; the claim sees the refusal, or the next one does.
        select q.id, q.message_id, q.status
        from sms_retry_queue q join sms_messages m on m.id = q.message_id
        where m.to_number = set_sms_consent.phone_number
            and set_sms_consent.business_id in ('*', m.business_id)
            and (q.status = 'pending' or q.status = 'unknown' and q.finished_at is null)
        order by q.id
        for update of q skip locked
    ),
    ended as (
        update sms_retry_queue q set status = 'failed', reason = 'opted_out', finished_at = now()
        from theirs where q.id = theirs.id and theirs.status = 'pending'
        returning q.message_id
    ),
    messages as (
        update sms_messages m
        set status = case theirs.status when 'pending' then 'failed' else m.status end,
            on_unknown = 'hold', updated_at = now()
        from theirs where m.id = theirs.message_id
    )
    select count(*) into stopped from ended;
    return stopped;
end
$$;

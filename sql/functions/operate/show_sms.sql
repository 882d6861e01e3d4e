-- Returns a message's phone number and text to an operator, and logs that the operator saw them.
create or replace function sms_retry.show_sms(message_id bigint, actor text) returns table (phone_number text, body text)
language sql set search_path = sms_retry, pg_temp
as $$
    with noted as (
        select m.to_number, m.body, note_sms_action(show_sms.actor, 'show', 'message ' || m.id, 'number and text') as result
        from sms_messages m
        where m.id = show_sms.message_id
    )
    select to_number, body from noted where result is not null;
$$;

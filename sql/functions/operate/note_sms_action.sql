-- Logs an operator's action and its result, in the statement that performs the action; returns the result.
create or replace function sms_retry.note_sms_action(actor text, action text, subject text, result text) returns text
language sql set search_path = sms_retry, pg_temp
as $$
    insert into sms_actions (actor, action, subject, result)
    values (note_sms_action.actor, note_sms_action.action, note_sms_action.subject, note_sms_action.result)
    returning result;
$$;

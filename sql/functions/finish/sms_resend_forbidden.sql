-- Whether the reason of a queue row forbids every further send: an operator called the message off, or its person opted
-- out. The reason stays through every later status. retry_sms_now replaces it. requeue_failed_sms and
-- requeue_sms_of_reason replace only `opted_out`.
create or replace function sms_retry.sms_resend_forbidden(reason text) returns boolean
language sql immutable
as $$
    select coalesce(reason in ('called_off', 'opted_out'), false);
$$;

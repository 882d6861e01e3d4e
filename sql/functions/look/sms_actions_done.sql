-- Lists operators' actions, the latest first, one page at a time (after `before_id`); with a subject, only those on it.
create or replace function sms_retry.sms_actions_done(subject text, before_id bigint, limit_count int)
returns setof sms_retry.sms_actions
language sql stable set search_path = sms_retry, pg_temp
as $$
    select * from sms_actions a
    where (sms_actions_done.subject is null or a.subject = sms_actions_done.subject) and a.id < before_id
    order by a.id desc
    limit limit_count;
$$;

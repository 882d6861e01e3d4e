-- Returns those of the given SIDs that no attempt owns.
create or replace function sms_retry.unowned_sms_sids(sids text[]) returns setof text
language sql stable set search_path = sms_retry, pg_temp
as $$
    select sid from unnest(sids) as sid
    where not exists (select from sms_attempts a where a.message_sid = sid);
$$;

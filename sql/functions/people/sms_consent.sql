-- A person's effective consent, from the row of one business (own) and the row of every business ('*'): an opt-out from
-- every business comes first, then the business's own row, then the row of every business.
create or replace function sms_retry.sms_consent(own text, everybodys text) returns text
language sql immutable
as $$
    select case when everybodys = 'opted_out' then 'opted_out'
        else coalesce(nullif(own, 'unknown'), everybodys, 'unknown') end;
$$;

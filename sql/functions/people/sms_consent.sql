-- What a person has agreed to, of what one business and what everybody was told: a stop for everybody outweighs one
-- business's yes, which outweighs what is general.
create or replace function sms_retry.sms_consent(own text, everybodys text) returns text
language sql immutable
as $$
    select case when everybodys = 'opted_out' then 'opted_out'
        else coalesce(nullif(own, 'unknown'), everybodys, 'unknown') end;
$$;

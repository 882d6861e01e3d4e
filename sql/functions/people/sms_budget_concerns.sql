-- Rule: does a budget concern a message? The key of an account is the name of a subaccount, or '*' for all accounts; the key of
-- a country is the first digits of its numbers.
create or replace function sms_retry.sms_budget_concerns(
    scope text, key text, to_number text, business_id text, kind text, account text
) returns boolean
language sql immutable
as $$
    select case scope
        when 'account' then key = '*' or key = account
        when 'business' then key = business_id
        when 'country' then starts_with(to_number, key)
        when 'kind' then key = kind
    end is true;
$$;

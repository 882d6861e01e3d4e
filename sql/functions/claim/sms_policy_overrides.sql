-- The operator's overrides of the release's table of codes, in the columns of that table.
create or replace function sms_retry.sms_policy_overrides()
returns table (code int, verdict text, strategy text, base_seconds int, retries int, scope text, spends boolean, reason text)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select code, verdict, strategy, base_seconds, retries, scope, spends, reason from sms_error_overrides;
$$;

-- The end of a claimed row's wait for a budget; null without a wait. It is volatile, so that it sees what its statement has
-- just claimed.
create or replace function sms_retry.sms_budget_until(queue_id bigint) returns timestamptz
language sql volatile set search_path = sms_retry, pg_temp
as $$
    select q.budget_until from sms_retry_queue q where q.id = sms_budget_until.queue_id;
$$;

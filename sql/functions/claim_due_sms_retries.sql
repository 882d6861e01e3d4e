-- Claims what is due, the longest due first, at most limit_count, and nothing that another worker is claiming.
create or replace function sms_retry.claim_due_sms_retries(limit_count int default 50)
returns setof sms_retry.claimed_sms
language plpgsql set search_path = sms_retry, pg_temp
-- The due index already has the order: a plan that sorts would read every row that waits.
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
    ids bigint[];
begin
    with due as materialized (
        select id from sms_retry_queue
        where status = 'pending' and scheduled_for <= now()
        order by scheduled_for, id
        limit let_through_sms_holds(limit_count)
        for update skip locked
    )
    select array_agg(id) into ids from due;

    if ids is not null then
        return query select * from take_sms_claims(ids);
    end if;
end
$$;

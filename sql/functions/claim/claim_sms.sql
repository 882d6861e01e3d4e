-- Claims at most limit_count due messages, and passes over the rows that another worker is claiming. due_sms has the order.
-- The region is looked up as in sms_region_of, without a call for each row.
create or replace function sms_retry.claim_sms(limit_count int default 50) returns setof sms_retry.sms_claim
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    wanted      int := coalesce(limit_count, 0);
    allowed     int := let_through_sms_holds(wanted);
    ids         bigint[] := due_sms(allowed, only_former => false, concerned => case when allowed < wanted then 'main' end);
    has_senders boolean := exists (select from sms_senders);
    has_budgets boolean := exists (select from sms_budgets);
begin
    -- A hold on the main account lets the subaccounts go on.
    if allowed < wanted and exists (select from sms_senders where account > '') then
        ids := ids || due_sms(wanted - allowed, only_former => false, concerned => 'subaccounts');
    end if;
    if cardinality(ids) = 0 then
        return;
    end if;

    return query
    select c.*, (
        select r.region from sms_recipients r
        where r.phone_number = c.to_number and r.business_id in ('*', c.business_id) and r.region is not null
        order by r.business_id = '*'
        limit 1),
        m.sender,
        case when has_senders then (select s.account from sms_senders s where s.sender = coalesce(m.sender, '*')) end,
        m.segments, m.media_urls, m.content_sid, m.content_variables::text,
        case when has_budgets then sms_budget_until(c.id) end
    from take_sms_claims(ids) c
    join sms_messages m on m.id = any (array[c.message_id]);
end
$$;

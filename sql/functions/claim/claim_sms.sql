-- Claims at most limit_count due messages. The region of each person is looked up as in sms_region_of, without a call for
-- each row.
create or replace function sms_retry.claim_sms(limit_count int default 50) returns setof sms_retry.sms_claim
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    ids         bigint[] := due_sms(let_through_sms_holds(coalesce(limit_count, 0)), only_former => false);
    has_senders boolean := exists (select from sms_senders);
begin
    if ids is null then
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
        m.segments, m.media_urls, m.content_sid, m.content_variables::text
    from take_sms_claims(ids) c
    join sms_messages m on m.id = any (array[c.message_id]);
end
$$;

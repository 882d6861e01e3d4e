-- The changes that a believed report makes in the counts of its message. Each attempt counts as accepted once, and has one last
-- receipt: a later receipt, which names the cause of a failure (explains) or says that the message was delivered after all,
-- takes the earlier one back. A count that is taken back keeps its time.
create or replace function sms_retry.sms_usage_changes(
    reported      text,     -- the outcome of the report
    reported_code int,
    sid           text,
    sent_at       timestamptz,
    is_accepted   boolean,  -- the attempt is accepted by this report
    explains      boolean   -- the message has failed before
) returns table (at timestamptz, outcome text, code int, seconds int, change int)
language sql stable
as $$
    select now(), 'accepted', null::int, null::int, 1 where is_accepted
    union all
    select now(), 'refused', reported_code, null, 1 where reported = 'refused'
    union all
    select sent_at, reported, case when reported <> 'delivered' then reported_code end,
        case when not explains then sms_retry.sms_rounded_seconds(now() - sent_at) end, 1
    where reported in ('delivered', 'undelivered', 'failed')
    union all
    (select sent_at, e.status, e.error_code, null, -1
    from sms_retry.sms_delivery_events e
    where reported in ('delivered', 'undelivered', 'failed') and not is_accepted
        and e.message_sid = sid and e.status in ('undelivered', 'failed')
        and (e.status, e.error_code) is distinct from (reported, reported_code)
    order by e.received_at desc
    limit 1);
$$;

-- Claims this one message if it is due, no other worker is claiming it, and holds and the pace of its sender allow it. An otp
-- and an emergency may borrow the tokens of ten seconds. `only_former` leaves out the messages that release
-- 0.1 cannot send.
create or replace function sms_retry.claim_sms_by_id(message_id bigint, only_former boolean)
returns setof sms_retry.sms_claim
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    claimed record;
begin
    select q.id, m.kind, coalesce(m.segments, 1) as segments, s.sender, s.account, s.segments_per_second as pace into claimed
    from sms_retry_queue q
    join sms_messages m on m.id = q.message_id
    left join sms_senders s on s.sender = coalesce(m.sender, '*')
    where q.message_id = claim_sms_by_id.message_id and q.status = 'pending' and q.scheduled_for <= now()
        and (not only_former or m.sender is null and m.media_urls is null and m.content_sid is null and s.account is null)
    for update of q skip locked;
    if not found or claimed.account is null and let_through_sms_holds(1) = 0 then
        return;
    end if;

    if claimed.pace > 0 then
        update sms_senders s
        set tokens = sms_tokens(s.segments_per_second, s.tokens, s.filled_at) - claimed.segments,
            filled_at = greatest(now(), s.filled_at)
        where s.sender = claimed.sender and sms_tokens_suffice(s.segments_per_second,
            sms_tokens(s.segments_per_second, s.tokens, s.filled_at)
                + case when claimed.kind in ('otp', 'emergency') then 10 * s.segments_per_second else 0 end, claimed.segments);
        if not found then
            return;
        end if;
    end if;
    return query select * from claim_locked_sms(array[claimed.id]);
end
$$;

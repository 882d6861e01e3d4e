-- The lane of a message: the messages of a rank, a sender and a business share their turn in the claim. Its bits, from the
-- lowest value of an int:
--   30, 31   the rank: 0 emergency and otp, 1 transactional, 2 marketing
--   29       whether release 0.1 cannot send the message: it has a sender, an account or parts of its own
--   17-28    the number of its sender; 0 for a sender without a pace and without a subaccount
--   0-16     a hash of its business: businesses with equal hashes share a lane
create or replace function sms_retry.sms_lane(kind text, business_id text, sender text, has_parts boolean) returns int
language sql stable set search_path = sms_retry, pg_temp
as $$
    select (-2147483648
        + (case when kind in ('otp', 'emergency') then 0 when kind = 'transactional' then 1 else 2 end::bigint << 30)
        + ((sms_lane.sender is not null or has_parts or s.account is not null)::int << 29)
        + (coalesce(s.number, 0) << 17)
        + (hashtext(sms_lane.business_id) & 131071))::int
    from (values (coalesce(sms_lane.sender, '*'))) origin (sender)
    left join sms_senders s on s.sender = origin.sender;
$$;

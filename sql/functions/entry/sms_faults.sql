-- Names every invalid argument of queue_sms_retry in one text, or returns null. It repeats no value: they are private.
-- to_number is the result of sms_number, which is null for an impossible number.
create or replace function sms_retry.sms_faults(
    to_number     text,
    body          text,
    business_id   text,
    kind          text,
    on_unknown    text,
    scheduled_for timestamptz,
    expires_at    timestamptz
) returns text
language sql stable
as $$
    select nullif(concat_ws('; ',
        case when to_number is null then 'to_number must be a phone number in E.164, such as +14155550123' end,
        case when (char_length(body) between 1 and 1600) is not true
            then 'body must have 1 to 1600 characters (white space at its ends does not count)' end,
        case when business_id is null then 'business_id must not be null' end,
        case when (kind in ('transactional', 'marketing', 'otp', 'emergency')) is not true
            then 'kind must be transactional, marketing, otp or emergency' end,
        case when (on_unknown in ('resend', 'hold')) is not true then 'on_unknown must be resend or hold' end,
        -- Python cannot represent an instant beyond these years, or infinity: a worker could not read the claim.
        case when not scheduled_for between '2000-01-01 00:00+00' and '9999-01-01 00:00+00'
            then 'scheduled_for must lie between the years 2000 and 9999' end,
        case when not expires_at between '2000-01-01 00:00+00' and '9999-01-01 00:00+00'
            then 'expires_at must lie between the years 2000 and 9999' end), '');
$$;

-- Names every invalid argument of queue_sms_retry in one text, or returns null. It repeats no value: they are private.
-- to_number is the result of sms_number, which is null for an impossible number. Postgres inlines this function into
-- queue_sms_retries as long as it has no subquery. Release 0.1 has sms_faults: a call of its entry that is under way during a
-- deploy needs that function, so this one has another name.
create or replace function sms_retry.sms_message_faults(
    to_number     text,
    body          text,
    business_id   text,
    kind          text,
    on_unknown    text,
    scheduled_for timestamptz,
    expires_at    timestamptz,
    sender        text,
    batch         text,
    media_urls    text[],
    content_sid   text,
    content_variables jsonb
) returns text
language sql stable
as $$
    select nullif(concat_ws('; ',
        case when to_number is null then 'to_number must be a phone number in E.164, such as +14155550123' end,
        case when (char_length(body) between case when media_urls is null and content_sid is null then 1 else 0 end and 1600)
                is not true
            then 'body must have 1 to 1600 characters (white space at its ends does not count)' end,
        case when business_id is null then 'business_id must not be null' end,
        case when (kind in ('transactional', 'marketing', 'otp', 'emergency')) is not true
            then 'kind must be transactional, marketing, otp or emergency' end,
        case when (on_unknown in ('resend', 'hold')) is not true then 'on_unknown must be resend or hold' end,
        -- Python cannot represent an instant beyond these years, or infinity: a worker could not read the claim.
        case when not scheduled_for between '2000-01-01 00:00+00' and '9999-01-01 00:00+00'
            then 'scheduled_for must lie between the years 2000 and 9998' end,
        case when not expires_at between '2000-01-01 00:00+00' and '9999-01-01 00:00+00'
            then 'expires_at must lie between the years 2000 and 9998' end,
        case when sender !~ '^([*]|[+][1-9][0-9]{1,14}|[0-9]{3,8}|MG[0-9a-fA-F]{32}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11})$'
            then 'sender must be a number in E.164, a short code, a name of up to 11 letters and digits, '
                'or MG and 32 hexadecimal digits' end,
        case when not char_length(batch) between 1 and 255 then 'batch must have 1 to 255 characters' end,
        case when not sms_retry.sms_media_are_valid(media_urls)
            then 'media_urls must be 1 to 10 https URLs' end,
        case when content_sid !~ '^HX[0-9a-fA-F]{32}$' then 'content_sid must be HX and 32 hexadecimal digits' end,
        case when content_variables is not null and (content_sid is null or jsonb_typeof(content_variables) <> 'object')
            then 'content_variables must be a JSON object, beside a content_sid' end), '');
$$;

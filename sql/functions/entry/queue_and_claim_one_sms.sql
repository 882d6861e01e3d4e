-- Takes a message in and claims it in one call. The row always has the message_id; its other columns are null when the
-- message cannot be claimed now.
create or replace function sms_retry.queue_and_claim_one_sms(
    to_number     text,
    body          text,
    message_key   text = null,
    business_id   text = 'default',
    kind          text = 'transactional',
    on_unknown    text = 'resend',
    time_zone     text = null,
    scheduled_for timestamptz = null,
    expires_at    timestamptz = null,
    sender        text = null,
    batch         text = null,
    media_urls    text[] = null,
    content_sid   text = null,
    content_variables jsonb = null
) returns setof sms_retry.sms_claim
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_variable
declare
    claimed sms_claim;
    queued  bigint := queue_sms_retry(to_number, body, message_key, business_id, kind, on_unknown, time_zone, scheduled_for,
        expires_at, sender => sender, batch => batch, media_urls => media_urls, content_sid => content_sid,
        content_variables => content_variables);
begin
    select * into claimed from claim_one_sms(queued);
    claimed.message_id := queued;
    return next claimed;
end
$$;

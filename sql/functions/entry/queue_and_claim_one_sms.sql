-- Takes a message in and claims it in one call, as queue_and_claim_sms does, with its person's stated region.
create or replace function sms_retry.queue_and_claim_one_sms(
    to_number     text,
    body          text,
    message_key   text = null,
    business_id   text = 'default',
    kind          text = 'transactional',
    on_unknown    text = 'resend',
    time_zone     text = null,
    scheduled_for timestamptz = null,
    expires_at    timestamptz = null
) returns setof sms_retry.sms_claim
language sql set search_path = sms_retry, pg_temp
as $$
    select c.*, sms_region_of(c.to_number, c.business_id)
    from queue_and_claim_sms(queue_and_claim_one_sms.to_number, queue_and_claim_one_sms.body,
        queue_and_claim_one_sms.message_key, queue_and_claim_one_sms.business_id, queue_and_claim_one_sms.kind,
        queue_and_claim_one_sms.on_unknown, queue_and_claim_one_sms.time_zone, queue_and_claim_one_sms.scheduled_for,
        queue_and_claim_one_sms.expires_at) c;
$$;

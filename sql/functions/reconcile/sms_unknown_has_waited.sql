-- Whether a receipt and Twilio's list had enough time, since the claim, to tell of an unknown message.
create or replace function sms_retry.sms_unknown_has_waited(claimed_at timestamptz) returns boolean
language sql stable
as $$
    select claimed_at < now() - interval '30 minutes';
$$;

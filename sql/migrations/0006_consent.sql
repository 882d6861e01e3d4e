-- The consent that a STOP took away, which a START gives back. Null where no STOP made the person opt out: an operator or
-- the application did.
alter table sms_retry.sms_recipients add column consent_before text;
alter table sms_retry.sms_recipients add constraint consent_before_is_a_consent
    check (consent_before in ('opted_in', 'unknown')) not valid;
-- A person's state, where it is stated: US-FL.
alter table sms_retry.sms_recipients add column if not exists region text;

-- Release 0.1 did not record the consent before a STOP. A START ends such an opt-out, and gives no consent back.
update sms_retry.sms_recipients set consent_before = 'unknown' where business_id = '*' and consent = 'opted_out';

-- The replies that asked to stop or to start, by their SID. They are kept: Twilio signs no time, so a reply can be replayed
-- at any later time.
create table sms_retry.sms_replies (
    message_sid text primary key,
    received_at timestamptz not null default now()
);

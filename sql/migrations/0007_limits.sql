-- A limit of one kind of message, of another length than a day, or of one region. messages_a_day is the number of messages
-- in each `per`. The table has a few rows, so its locks are short.
alter table sms_retry.sms_limits
    add column kind   text not null default '*',
    add column per    interval not null default '1 day',
    add column region text not null default '*';
-- Each constraint holds for every earlier row, because the defaults meet it.
alter table sms_retry.sms_limits
    add constraint limited_kind check (kind in ('*', 'transactional', 'marketing', 'otp')) not valid,
    add constraint limited_per check (per > interval '0') not valid,
    add constraint limited_region check (region ~ '^([*]|[A-Z]{2}(-[A-Z0-9]{1,3})?)$') not valid;
-- squawk-ignore ban-drop-constraint
alter table sms_retry.sms_limits drop constraint sms_limits_pkey;
-- squawk-ignore adding-serial-primary-key-field,constraint-missing-not-valid
alter table sms_retry.sms_limits add constraint sms_limits_pkey primary key (business_id, kind, per, region);

-- The region of each area code after +1: sql/data/sms_area_codes.sql fills it at each deploy.
create table sms_retry.sms_area_codes (
    area_code text primary key,
    region    text not null
);

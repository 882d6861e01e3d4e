-- An operator's override of one line of the release's table of sending hours; the columns are those of that table. Hours
-- are opening and closing time, or an empty text for a closed day.
create table sms_retry.sms_hours_overrides (
    region    text not null check (region ~ '^([*]|[A-Z]{2}(-[A-Z0-9]{1,3})?)$'),
    kind      text not null check (kind in ('transactional', 'marketing')),
    weekdays  text not null,
    saturdays text not null,
    sundays   text not null,
    holidays  text not null default 'open'
        check (holidays in ('open', 'closed', 'closed sun>mon', 'closed sat>mon sun>mon', 'closed sat>fri sun>mon')),
    source    text not null,
    primary key (region, kind),
    constraint weekdays_are_hours
        check (weekdays ~ '^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$'),
    constraint saturdays_are_hours
        check (saturdays ~ '^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$'),
    constraint sundays_are_hours
        check (sundays ~ '^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$')
);

-- A person's region where it is stated, such as US-FL: otherwise the number gives it.
alter table sms_retry.sms_recipients add column if not exists region text;
alter table sms_retry.sms_recipients add constraint region_is_a_region
    check (region ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$') not valid;

-- A claimed message: the columns of claimed_sms, which stays as release 0.1 knows it, and then those that are new.
create type sms_retry.sms_claim as (
    id                  bigint,
    attempt             int,
    message_id          bigint,
    business_id         text,
    to_number           text,
    body                text,
    kind                text,
    time_zone           text,
    recipient_time_zone text,
    consent             text,
    expires_at          timestamptz,
    held_until          timestamptz,
    limited_until       timestamptz,
    claimed_at          timestamptz,
    recipient_region    text
);

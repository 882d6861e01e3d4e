-- An operator's override of one line of the release's table of sending hours; the columns are those of that table. Hours
-- are opening and closing time, or an empty text for a closed day.
create table sms_retry.sms_hours_overrides (
    region    text not null check (region ~ '^([*]|[A-Z]{2}(-[A-Z]{2})?)$'),
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

-- What was sent and what arrived. A statement that decides about messages adds a row for each group of equal ones, and
-- changes no row, so that no worker waits for another. fold_sms_usage adds the rows of equal groups together. `day` is
-- midnight UTC of the day on which the message was sent.
--   outcome    accepted (by Twilio, which bills the segments), refused; the last receipt of an attempt: delivered,
--              undelivered, failed
--   seconds    from sent to the receipt, rounded up by sms_rounded_seconds; null where it is not known
create table sms_retry.sms_usage (
    day         timestamptz not null,
    business_id text not null,
    sender      text not null,
    country     text not null,
    kind        text not null,
    outcome     text not null check (outcome in ('accepted', 'refused', 'delivered', 'undelivered', 'failed')),
    error_code  int,
    seconds     int,
    messages    bigint not null,
    segments    bigint not null
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000);

-- squawk-ignore require-concurrent-index-creation
create index sms_usage_day on sms_retry.sms_usage (day);

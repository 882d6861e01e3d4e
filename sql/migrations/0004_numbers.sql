-- How each calling code spells its numbers, as libphonenumber knows it: sql/data/sms_calling_codes.sql fills it at each deploy.
create table sms_retry.sms_calling_codes (
    calling_code     text primary key,
    trunk_prefix     text,
    trunk_rule       text,
    national_pattern text not null,
    lengths          int[] not null,
    local_lengths    int[] not null
);

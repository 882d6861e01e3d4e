-- Brings the numbers of messages that have ended to their one spelling, as 0001_numbers those of the others: a person is
-- erased, exported and searched with every message.
update sms_retry.sms_messages m set to_number = s.spelled
from (
    select id, to_number, sms_retry.sms_number(to_number) as spelled
    from (
        select id, to_number from sms_retry.sms_messages
        where id > %(after)s and id <= %(upto)s and to_number ~ (
            select '^[+](?:' || string_agg(calling_code || '(?:' || trunk_prefix || ')', '|') || ')'
            from sms_retry.sms_calling_codes where trunk_prefix is not null)
        offset 0
    ) suspected
) s
where m.id = s.id and s.spelled <> s.to_number;

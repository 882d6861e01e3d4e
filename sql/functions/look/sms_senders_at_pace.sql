-- How many senders with a pace have no segment left at this moment: their messages wait in the queue.
create or replace function sms_retry.sms_senders_at_pace() returns bigint
language sql stable set search_path = sms_retry, pg_temp
as $$
    select count(*) from sms_senders s
    where s.segments_per_second > 0
        and not sms_tokens_suffice(s.segments_per_second, sms_tokens(s.segments_per_second, s.tokens, s.filled_at), 1);
$$;

-- Whether a sender with this pace may send a message of so many segments. It may borrow half a segment, so that its whole
-- pace can be used by workers that look four times a second. A full bucket lets any message go.
create or replace function sms_retry.sms_tokens_suffice(pace numeric, tokens numeric, segments numeric) returns boolean
language sql immutable
as $$
    select tokens >= least(segments, pace) - 0.5;
$$;

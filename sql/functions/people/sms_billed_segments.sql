-- The segments that Twilio bills for a message. Release 0.1 did not count them: no segment of several has fewer than 67
-- characters.
create or replace function sms_retry.sms_billed_segments(segments int, body text) returns int
language sql immutable parallel safe
as $$
    select greatest(coalesce(segments, ceil(char_length(body) / 67.0)::int), 1);
$$;

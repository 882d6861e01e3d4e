-- The segments that a sender with this pace may send now; after borrowing, below zero. At most those of one second are saved.
create or replace function sms_retry.sms_tokens(pace numeric, tokens numeric, filled_at timestamptz) returns numeric
language sql stable
as $$
    select least(pace, tokens + pace * greatest(extract(epoch from now() - filled_at), 0));
$$;

-- Takes back the claims of workers that must be dead by now. Each may have been sent, so each is unknown, and keeps its
-- ticket: its callback, Twilio's list or the worker itself may still settle it.
create or replace function sms_retry.recover_stuck_sms_retries(stale_minutes int default 10) returns int
language plpgsql set search_path = sms_retry, pg_temp
set enable_seqscan = off set jit = off
as $$
declare
    ids       bigint[];
    attempts  int[];
    recovered int;
begin
    with stuck as materialized (
        select id, attempt from sms_retry_queue
        where status = 'processing' and claimed_at < now() - make_interval(mins => stale_minutes)
        for update skip locked
    )
    select array_agg(id order by id), array_agg(attempt order by id) into ids, attempts from stuck;
    if ids is null then
        return 0;
    end if;

    select count(*) into recovered
    from finish_sms_retries(
        ids, attempts,
        outcomes => array_fill('unknown'::text, array[cardinality(ids)]),
        error_messages => array_fill('its worker never reported back'::text, array[cardinality(ids)]));
    return recovered;
end
$$;

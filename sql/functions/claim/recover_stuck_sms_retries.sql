-- Makes the claims of dead workers unknown, since each message may have been sent. The ticket stays the same: a
-- receipt, Twilio's list or the slow worker itself can still settle the row.
create or replace function sms_retry.recover_stuck_sms_retries(stale_minutes int default 10) returns int
language plpgsql set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
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

-- Returns the reports that say only what the database has already: a receipt was faster, or the same report was written
-- before and its answer was lost. Another SID under the same ticket is another message, and is not known.
create or replace function sms_retry.known_sms_reports(
    ids          bigint[],
    attempts     int[],
    outcomes     text[],
    message_sids text[]
) returns table (id bigint, attempt int, status text)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    select q.id, q.attempt, q.status
    from unnest(ids, attempts, outcomes, message_sids) as t (id, attempt, outcome, sid)
    join sms_retry_queue q on q.id = any (array[t.id]) and q.attempt = t.attempt
    where exists (
        select from sms_attempts a
        where a.queue_id = t.id and a.attempt = t.attempt
            and (t.outcome = 'unknown' or a.outcome = t.outcome and a.message_sid is not distinct from t.sid)
        offset 0);
$$;

-- The instant at which a claim may begin to look for due rows: no row that has waited for a minute is due before it. The index
-- entries before it are of earlier claims, and an open snapshot keeps them from vacuum. A row that becomes due before it
-- later has to wait until a worker asks again.
create or replace function sms_retry.sms_waiting_since() returns timestamptz
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
    select least((select scheduled_for from sms_retry_queue where status = 'pending' order by scheduled_for, id limit 1),
        now() - interval '1 minute');
$$;

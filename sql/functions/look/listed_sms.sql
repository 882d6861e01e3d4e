-- The columns of a list of these messages, in the order of ids. `at` is when a message ended, was claimed or is due.
create or replace function sms_retry.listed_sms(message_ids bigint[])
returns table (
    message_id   bigint,
    business_id  text,
    kind         text,
    number       text,
    status       text,
    queue_id     bigint,
    queue_status text,
    at           timestamptz,
    ended        boolean,
    reason       text,
    attempt      int,
    retry_count  int,
    error_code   int
)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
    select m.id, m.business_id, m.kind, masked_sms_number(m.to_number), m.status, q.id, q.status,
        coalesce(q.finished_at, q.claimed_at, q.scheduled_for, m.updated_at),
        q.id is null or q.finished_at is not null, q.reason, q.attempt, m.retry_count,
        coalesce(m.error_code, q.last_error_code)
    from unnest(message_ids) with ordinality as listed (id, place)
    join sms_messages m on m.id = listed.id
    left join sms_retry_queue q on q.message_id = m.id
    order by listed.place;
$$;

-- Returns the control for the list of the main account or of a subaccount: the newest message that Twilio accepted within
-- four days, at least a minute ago, and that still has its text and media. The text of a content template is Twilio's, so
-- such a message is no control. An unknown message is asked about for 72 hours: four days include the day before its
-- claim. Only an answer to our POST proves the time of an acceptance: the list and a receipt may tell of one that is hours
-- old. The POST was made after posted_after, because a claim counts as stuck after ten minutes.
create or replace function sms_retry.sms_list_control(account text = null)
returns table (to_number text, body text, provider_sid text, posted_after timestamptz, accepted_at timestamptz, media int)
language sql stable set search_path = sms_retry, pg_temp
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off set enable_mergejoin = off
set jit = off
as $$
    with newest as materialized (
        select q.id, q.attempt, q.message_id from sms_retry_queue q
        where q.finished_at > now() - interval '4 days' and not q.body_erased and q.status = 'completed'
        order by q.finished_at desc
        limit 1000
    )
    select m.to_number, m.body, a.message_sid, a.at - interval '10 minutes', a.at, coalesce(cardinality(m.media_urls), 0)
    from newest q
    -- `offset 0`: one look-up for each row, never a scan.
    cross join lateral (
        select a.message_sid, a.at, a.http_status from sms_attempts a
        where a.queue_id = q.id and a.attempt = q.attempt and a.outcome = 'accepted'
        offset 0
    ) a
    cross join lateral (
        select m.to_number, m.body, m.media_urls from sms_messages m
        left join sms_senders s on s.sender = any (array[coalesce(m.sender, '*')])
        where m.id = q.message_id and m.content_sid is null and s.account is not distinct from sms_list_control.account
        offset 0
    ) m
    where a.http_status is not null and m.body is not null
        and a.at between now() - interval '4 days' and now() - interval '1 minute'
    order by a.at desc
    limit 1;
$$;

-- Locks at most `places` due rows, in the order in which they are claimed, and passes over the rows that another worker is
-- claiming. By rank: emergency and otp, then transactional, then marketing. Of each lower rank, messages that have been due
-- for ten minutes have one place in ten before that. In a rank, senders with a pace give as many as their tokens allow: at
-- most half of the places while other messages want the rest. `only_former` leaves out the messages that release 0.1 cannot
-- send, `concerned` (main, subaccounts) the senders of other accounts, `since` the rows that were due earlier.
create or replace function sms_retry.due_sms(
    places      int,
    only_former boolean,
    concerned   text = null,
    since       timestamptz = null
) returns bigint[]
language plpgsql set search_path = sms_retry, pg_temp set plan_cache_mode = force_generic_plan
-- pinned, see sql/README.md
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
    numbers int := coalesce((select max(number) from sms_senders), 0);
    oldest  timestamptz := (
                select scheduled_for from sms_retry_queue
                where status = 'pending' and scheduled_for >= coalesce(since, '-infinity')
                order by scheduled_for, id limit 1);
    late_1  bigint[] := '{}';
    late_2  bigint[] := '{}';
    ids     bigint[] := '{}';
begin
    if places <= 0 or oldest > now() or oldest is null then
        return ids;
    end if;
    if oldest < now() - interval '10 minutes' then
        -- On average one place in ten of a claim of a few rows too.
        late_1 := due_sms_of_rank(1, floor(places / 10.0 + random())::int, oldest, now() - interval '10 minutes', '{}',
            numbers, only_former, concerned);
        late_2 := due_sms_of_rank(2, least(floor(places / 10.0 + random())::int, places - cardinality(late_1)),
            oldest, now() - interval '10 minutes', '{}', numbers, only_former, concerned);
    end if;
    ids := due_sms_of_rank(0, places - cardinality(late_1) - cardinality(late_2), oldest, now(), '{}',
        numbers, only_former, concerned) || late_1;
    ids := ids || due_sms_of_rank(1, places - cardinality(ids) - cardinality(late_2), oldest, now(), late_1,
        numbers, only_former, concerned) || late_2;
    return ids || due_sms_of_rank(2, places - cardinality(ids), oldest, now(), late_2, numbers, only_former, concerned);
end
$$;

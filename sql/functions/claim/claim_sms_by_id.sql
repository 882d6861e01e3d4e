-- Claims this one message if it is due, no other worker is claiming it, and the holds on account and sender allow it.
-- `only_former` leaves out the messages that release 0.1 cannot send.
create or replace function sms_retry.claim_sms_by_id(message_id bigint, only_former boolean)
returns setof sms_retry.claimed_sms
language plpgsql set search_path = sms_retry, pg_temp
as $$
declare
    ids bigint[];
begin
    with due as materialized (
        select id from sms_retry_queue q
        where q.message_id = claim_sms_by_id.message_id and status = 'pending' and scheduled_for <= now()
            and (not only_former or sms_is_former(q.message_id))
        limit let_through_sms_holds(1)
        for update skip locked
    )
    select array_agg(id) into ids from due;

    if ids is not null then
        return query select * from take_sms_claims(ids);
    end if;
end
$$;

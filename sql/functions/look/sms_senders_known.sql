-- Lists the senders: the business, the subaccount, the pace, the tokens now, and whether a hold on the sender is set.
create or replace function sms_retry.sms_senders_known()
returns table (
    sender              text,
    business_id         text,
    account             text,
    segments_per_second numeric,
    tokens              numeric,
    is_held             boolean
)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select s.sender, s.business_id, s.account, s.segments_per_second,
        round(sms_tokens(s.segments_per_second, s.tokens, s.filled_at), 1),
        exists (select from sms_holds h where h.scope = 'sender' and h.key = s.sender)
    from sms_senders s
    order by s.sender
    limit 5000;
$$;

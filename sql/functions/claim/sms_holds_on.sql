-- The holds that concern a message. They are found by the key of the table: thousands of persons may have a hold each.
create or replace function sms_retry.sms_holds_on(to_number text, sender text, business_id text, batch text)
returns setof sms_retry.sms_holds
language sql stable rows 1
as $$
    select h.* from sms_retry.sms_holds h where h.scope = 'recipient' and h.key = to_number
    union all
    select h.* from sms_retry.sms_holds h where h.scope = 'country' and starts_with(to_number, h.key)
    union all
    select h.* from sms_retry.sms_holds h where h.scope = 'sender' and h.key = coalesce(sms_holds_on.sender, '*')
    union all
    select h.* from sms_retry.sms_holds h where h.scope = 'business' and h.key = sms_holds_on.business_id
    union all
    select h.* from sms_retry.sms_holds h where h.scope = 'batch' and h.key = sms_holds_on.batch
    union all
    select h.* from sms_retry.sms_holds h where h.scope = 'account' and h.key = coalesce((
        select s.account from sms_retry.sms_senders s where s.sender = coalesce(sms_holds_on.sender, '*')), '*');
$$;

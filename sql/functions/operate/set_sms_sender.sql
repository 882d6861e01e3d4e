-- Adds a sender or replaces its facts: the business whose default it is, the segments that it may send a second
-- (null: no pace) and its subaccount (null: the main account). The waiting messages of the sender move to its new lanes. A
-- message that another transaction is queueing or settling at that moment keeps the former lane.
create or replace function sms_retry.set_sms_sender(
    sender              text,
    business_id         text = null,
    segments_per_second numeric = null,
    account             text = null
) returns void
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
declare
    before sms_senders;
    number int;
    faults text := concat_ws('; ',
        case when (set_sms_sender.sender
                ~ '^([*]|[+][1-9][0-9]{1,14}|[0-9]{3,8}|MG[0-9a-fA-F]{32}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11})$') is not true
            then 'sender must be * (that of the deployment), a number in E.164, a short code, a name of up to 11 letters and digits, '
                'or MG and 32 hexadecimal digits' end,
        case when not set_sms_sender.segments_per_second > 0 or set_sms_sender.segments_per_second in ('NaN', 'Infinity')
            then 'segments_per_second must be a number above 0' end,
        case when set_sms_sender.account in ('', '*') then 'account must be a name of the Twilio secret' end,
        case when exists (
                select from sms_senders s
                where s.business_id = set_sms_sender.business_id and s.sender <> set_sms_sender.sender)
            then 'business_id has another sender already: set that sender without a business first' end);
begin
    if faults <> '' then
        raise exception 'nothing was stored: %', faults using errcode = 'invalid_parameter_value';
    end if;
    -- Two calls at once must not choose the same number. Workers may write the table meanwhile.
    lock table sms_senders in share update exclusive mode;
    select s.* into before from sms_senders s where s.sender = set_sms_sender.sender;
    if set_sms_sender.segments_per_second is not null or set_sms_sender.account is not null then
        number := coalesce(before.number, (
            select min(n) from generate_series(1, 4095) n where not exists (select from sms_senders s where s.number = n)));
        if number is null then
            raise exception 'nothing was stored: at most 4,095 senders may have a pace or a subaccount'
                using errcode = 'program_limit_exceeded';
        end if;
    end if;

    insert into sms_senders (sender, business_id, segments_per_second, account, number)
    values (set_sms_sender.sender, set_sms_sender.business_id, set_sms_sender.segments_per_second, set_sms_sender.account,
        number)
    on conflict (sender) do update
        set business_id = excluded.business_id, segments_per_second = excluded.segments_per_second,
            account = excluded.account, number = excluded.number,
            tokens = least(sms_senders.tokens, 0), filled_at = now();

    if number is distinct from before.number or set_sms_sender.account is distinct from before.account then
        perform move_sms_of_sender(set_sms_sender.sender);
    end if;
end
$$;

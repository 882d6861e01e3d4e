-- Opts out the person whose stop Twilio reported to the application's own first send. It concerns the business of the message's
-- sender, or every business, as in opt_out_sms_refusers. Returns how many waiting messages failed.
create or replace function sms_retry.opt_out_first_sms_refuser(phone_number text, sender text, business_id text) returns int
language sql set search_path = sms_retry, pg_temp
as $$
    select sum(stop_sms_recipient(business, opt_out_first_sms_refuser.phone_number))::int
    from sms_businesses_of(array[coalesce(
        opt_out_first_sms_refuser.sender,
        (select s.sender from sms_senders s where s.business_id = opt_out_first_sms_refuser.business_id),
        '*')], opt_out_first_sms_refuser.phone_number) business;
$$;

-- Sets or extends a hold as open_sms_hold does, after a receipt reported the cause. Only a receipt of its probe clears it:
-- Twilio accepts the POST of such a message, and reports the failure later.
create or replace function sms_retry.open_sms_hold_by_receipt(scope text, key text, wait interval, reason text) returns void
language sql set search_path = sms_retry, pg_temp
as $$
    select open_sms_hold(open_sms_hold_by_receipt.scope, open_sms_hold_by_receipt.key, open_sms_hold_by_receipt.wait,
        open_sms_hold_by_receipt.reason);
    update sms_holds h set cleared_by = 'receipt'
    where h.scope = open_sms_hold_by_receipt.scope and h.key = open_sms_hold_by_receipt.key;
$$;

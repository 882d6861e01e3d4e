-- What clears a hold: an answer to its probe, or a receipt of its probe. A cause that only receipts report, such as 30034,
-- lets Twilio accept every POST.
alter table sms_retry.sms_holds
    add column cleared_by text not null default 'answer' check (cleared_by in ('answer', 'receipt'));

-- Holds by their probe: thousands of persons may have a hold at once.
-- squawk-ignore require-concurrent-index-creation
create index sms_holds_probe on sms_retry.sms_holds (probe_id) where probe_id is not null;

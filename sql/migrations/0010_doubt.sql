-- After a restore, the time since when the message may have been sent; null without a restore, and after the next claim.
alter table sms_retry.sms_retry_queue add column doubted_since timestamptz;

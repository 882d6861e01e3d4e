-- A text may be erased in the hour of its message's end. The endings of the last day are read from an index alone in that case too.
-- squawk-ignore require-concurrent-index-deletion
drop index sms_retry.sms_retry_queue_erased;
-- squawk-ignore require-concurrent-index-creation
create index sms_retry_queue_erased_endings
    on sms_retry.sms_retry_queue (finished_at, status, last_error_code, retry_count) where body_erased;

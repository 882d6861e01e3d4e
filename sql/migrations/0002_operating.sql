-- The log of operators' actions: the actor, the action, its subject and its result. Phone numbers are masked.
create table sms_retry.sms_actions (
    id      bigint generated always as identity primary key,
    at      timestamptz not null default now(),
    actor   text not null,
    action  text not null,
    subject text not null,
    result  text
);

-- The text of an ended message may be erased before the rest of it. A claim never sees a message without its text.
-- squawk-ignore ban-drop-not-null
alter table sms_retry.sms_messages alter column body drop not null;
-- Both constraints hold for every earlier row, because every earlier row has its text.
alter table sms_retry.sms_messages
    add constraint waiting_has_a_body check (body is not null or status <> 'queued') not valid;
alter table sms_retry.sms_retry_queue add column body_erased boolean not null default false;
alter table sms_retry.sms_retry_queue
    add constraint erased_has_ended check (not body_erased or finished_at is not null) not valid;

-- Ended rows, the oldest first, for the clean-up; and the endings of the last day, read from the index alone.
-- squawk-ignore require-concurrent-index-creation
create index sms_retry_queue_ended on sms_retry.sms_retry_queue (finished_at, status, last_error_code, retry_count)
    where finished_at is not null and not body_erased;
-- Ended rows with an erased text: only their removal remains.
-- squawk-ignore require-concurrent-index-creation
create index sms_retry_queue_erased on sms_retry.sms_retry_queue (finished_at) where body_erased;
-- squawk-ignore require-concurrent-index-deletion
drop index sms_retry.sms_retry_queue_finished;

-- The index covers new receipts before the next vacuum.
alter index sms_retry.sms_delivery_events_received set (autosummarize = on);

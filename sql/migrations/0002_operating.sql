-- What was done by hand, by whom, and what came of it. A phone number is masked.
create table sms_retry.sms_actions (
    id      bigint generated always as identity primary key,
    at      timestamptz not null default now(),
    actor   text not null,
    action  text not null,
    subject text not null,
    result  text
);

-- The text of a message that has ended may be erased before the rest of it. Whoever sends sees none that is.
-- squawk-ignore ban-drop-not-null
alter table sms_retry.sms_messages alter column body drop not null;
-- Every row of before has its text, so these two hold already.
alter table sms_retry.sms_messages
    add constraint waiting_has_a_body check (body is not null or status <> 'queued') not valid;
alter table sms_retry.sms_retry_queue add column body_erased boolean not null default false;
alter table sms_retry.sms_retry_queue
    add constraint erased_has_ended check (not body_erased or finished_at is not null) not valid;

-- Ended, the longest ago first: what the clean-up takes, and, without a look at the table, how the last day ended.
-- squawk-ignore require-concurrent-index-creation
create index sms_retry_queue_ended on sms_retry.sms_retry_queue (finished_at, status, last_error_code, retry_count)
    where finished_at is not null and not body_erased;
-- Ended, and its text is erased: all that is left to do is to remove it.
-- squawk-ignore require-concurrent-index-creation
create index sms_retry_queue_erased on sms_retry.sms_retry_queue (finished_at) where body_erased;
-- squawk-ignore require-concurrent-index-deletion
drop index sms_retry.sms_retry_queue_finished;

-- New callbacks are found by their time before a vacuum has been there.
alter index sms_retry.sms_delivery_events_received set (autosummarize = on);

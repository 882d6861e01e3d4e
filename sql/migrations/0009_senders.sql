-- The sender of a message (null: the sender of the deployment), its batch, its size as Twilio bills it (null: not yet
-- counted), and the parts that a message may have instead of a text.
alter table sms_retry.sms_messages
    add column sender            text,
    add column batch             text,
    add column segments          int,
    add column media_urls        text[],
    add column content_sid       text,
    add column content_variables jsonb;

-- The messages of a batch.
-- squawk-ignore require-concurrent-index-creation
create index sms_messages_batch on sms_retry.sms_messages (batch, id) where batch is not null;

-- A message with media or a content template may have the empty text. The new constraint holds for every earlier row.
-- squawk-ignore ban-drop-constraint
alter domain sms_retry.message_body drop constraint message_body_check;
alter domain sms_retry.message_body
    -- squawk-ignore ban-alter-domain-with-add-constraint
    add constraint message_body_length check (char_length(value) <= 1600) not valid;

-- A sender of the deployment, its pace, and the segments that it may send now: `tokens`, counted at `filled_at`. A sender
-- with a pace or a subaccount has a `number`, by which the lanes of the queue name it.
create table sms_retry.sms_senders (
    sender              text primary key
        check (sender ~ '^([*]|[+][1-9][0-9]{1,14}|[0-9]{3,8}|MG[0-9a-fA-F]{32}|[A-Za-z0-9 ]{1,11})$'),
    business_id         text unique,
    account             text,
    segments_per_second numeric check (segments_per_second > 0),
    number              int unique check (number between 1 and 4095),
    tokens              numeric not null default 0,
    filled_at           timestamptz not null default now()
) with (fillfactor = 50);
-- The senders of subaccounts: a claim asks whether there are any.
-- squawk-ignore require-concurrent-index-creation
create index sms_senders_account on sms_retry.sms_senders (account) where account is not null;

-- A spending cap: `spent` counts the segments since `since`, the start of the present interval.
create table sms_retry.sms_budgets (
    scope    text not null check (scope in ('account', 'business', 'country', 'kind')),
    key      text not null,
    per      interval not null default '1 day' check (per >= '1 minute'),
    segments int not null check (segments >= 0),
    spent    bigint not null default 0,
    since    timestamptz not null default now(),
    primary key (scope, key, per)
) with (fillfactor = 50);

-- The segments that a claim has reserved in the budgets, and when; and the end of a wait for a budget.
alter table sms_retry.sms_retry_queue
    add column reserved     int,
    add column reserved_at  timestamptz,
    add column budget_until timestamptz;

-- The types of events that are written; none by default.
create table sms_retry.sms_event_types (
    type text primary key check (type in
        ('delivered', 'undelivered', 'failed', 'expired', 'cancelled', 'unknown', 'reply'))
);

-- An event that its consumer has not confirmed. `leased_until` is when an unconfirmed event is returned again.
create table sms_retry.sms_outbox (
    id           bigint generated always as identity primary key,
    type         text not null,
    at           timestamptz not null default now(),
    message_id   bigint,
    message_key  text,
    business_id  text,
    batch        text,
    error_code   int,
    reason       text,
    detail       jsonb,
    leased_until timestamptz
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500);

-- The events of one message, in order.
-- squawk-ignore require-concurrent-index-creation
create index sms_outbox_message on sms_retry.sms_outbox (message_id, id) where message_id is not null;

-- The replies of one person.
-- squawk-ignore require-concurrent-index-creation
create index sms_outbox_from on sms_retry.sms_outbox ((detail ->> 'from')) where type = 'reply';

-- A hold may concern a business or a batch too. The new constraint holds for every earlier row.
-- squawk-ignore ban-drop-constraint
alter table sms_retry.sms_holds drop constraint sms_holds_scope_check;
alter table sms_retry.sms_holds add constraint sms_holds_scope_check
    check (scope in ('account', 'sender', 'country', 'recipient', 'business', 'batch')) not valid;

-- What a worker needs of a claimed message beyond its region.
alter type sms_retry.sms_claim add attribute sender text;
alter type sms_retry.sms_claim add attribute account text;
alter type sms_retry.sms_claim add attribute segments int;
alter type sms_retry.sms_claim add attribute media_urls text[];
alter type sms_retry.sms_claim add attribute content_sid text;
alter type sms_retry.sms_claim add attribute content_variables text;
alter type sms_retry.sms_claim add attribute budget_until timestamptz;

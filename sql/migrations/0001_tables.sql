-- The values that a message's columns may have. They are domains because Postgres parses the check constraints of a
-- table again for each statement that writes a row, and a message is written at every step.
-- squawk-ignore ban-create-domain-with-constraint
create domain sms_retry.phone_number as text check (value ~ '^\+[1-9][0-9]{1,14}$');
-- squawk-ignore ban-create-domain-with-constraint
create domain sms_retry.message_body as text check (char_length(value) between 1 and 1600);
-- squawk-ignore ban-create-domain-with-constraint
create domain sms_retry.message_kind as text check (value in ('transactional', 'marketing', 'otp', 'emergency'));
-- squawk-ignore ban-create-domain-with-constraint
create domain sms_retry.unknown_policy as text check (value in ('resend', 'hold'));
-- squawk-ignore ban-create-domain-with-constraint
create domain sms_retry.message_status as text check (value in
    ('queued', 'sent', 'delivered', 'undelivered', 'failed', 'unknown', 'cancelled', 'expired'));

-- One logical message to one person: the send log.
create table sms_retry.sms_messages (
    id            bigint generated always as identity primary key,
    message_key   text,
    business_id   text not null,
    to_number     sms_retry.phone_number not null,
    body          sms_retry.message_body not null,
    kind          sms_retry.message_kind not null,
    on_unknown    sms_retry.unknown_policy not null,
    time_zone     text,
    expires_at    timestamptz not null,
    status        sms_retry.message_status not null,
    provider_sid  text,
    error_code    int,
    error_message text,
    retry_count   int not null default 0,
    ask_at        timestamptz,
    sent_at       timestamptz,
    delivered_at  timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    constraint sent_has_a_sid check (status <> 'sent' or (provider_sid is not null and sent_at is not null)),
    constraint delivered_has_a_time check ((status = 'delivered') = (delivered_at is not null))
);

-- Two calls with the same key are one message.
create unique index sms_messages_key on sms_retry.sms_messages (business_id, message_key)
    where message_key is not null;
-- All messages to one person.
create index sms_messages_recipient on sms_retry.sms_messages (to_number);
-- Silent messages: sent, without a final receipt since.
create index sms_messages_silent on sms_retry.sms_messages (ask_at) where status = 'sent';

-- The sending state of one message. The row is narrow, because every step rewrites it.
create table sms_retry.sms_retry_queue (
    id              bigint generated always as identity primary key,
    message_id      bigint not null unique references sms_retry.sms_messages,
    -- A hash of the business_id: businesses with equal hashes share a lane.
    lane            int not null default 0,
    status          text not null check (status in
                        ('pending', 'processing', 'completed', 'failed', 'unknown', 'cancelled', 'expired')),
    scheduled_for   timestamptz not null,
    attempt         int not null default 0,
    retry_count     int not null default 0,
    max_retries     int not null default 3,
    claimed_at      timestamptz,
    reason          text,
    last_error_code int,
    finished_at     timestamptz,
    constraint claimed_has_a_time check ((claimed_at is not null) = (status in ('processing', 'unknown'))),
    constraint waiting_has_no_end check (finished_at is null or status not in ('pending', 'processing')),
    constraint ended_has_a_time
        check (finished_at is not null or status not in ('completed', 'failed', 'cancelled', 'expired'))
) with (
    -- Every row is rewritten several times, so vacuum removes the dead rows early and without a pause.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 500
);

-- The claim reads this index in its order.
create index sms_retry_queue_due on sms_retry.sms_retry_queue (scheduled_for, id) where status = 'pending';
-- The longest due message of each lane, so that a million messages of one business do not delay one message of another.
create index sms_retry_queue_lanes on sms_retry.sms_retry_queue (lane, scheduled_for, id) where status = 'pending';
-- Claims, the oldest first: a dead worker may hold them.
create index sms_retry_queue_leased on sms_retry.sms_retry_queue (claimed_at) where status = 'processing';
-- Unknown messages by the time of the next question to Twilio.
create index sms_retry_queue_unknown on sms_retry.sms_retry_queue (scheduled_for)
    where status = 'unknown' and finished_at is null;
-- Ended rows, the oldest first, for the clean-up.
create index sms_retry_queue_finished on sms_retry.sms_retry_queue (finished_at) where finished_at is not null;

-- One outcome of one attempt. An unknown attempt that is settled later gets a second row; no row is rewritten.
create table sms_retry.sms_attempts (
    queue_id          bigint not null,
    attempt           int not null,
    outcome           text not null check (outcome in ('accepted', 'refused', 'unknown')),
    at                timestamptz not null default now(),
    message_sid       text,
    error_code        int,
    error_message     text,
    http_status       int,
    twilio_request_id text,
    primary key (queue_id, attempt, outcome),
    constraint accepted_has_a_sid check ((outcome = 'accepted') = (message_sid is not null))
);

-- A receipt without a ticket finds its attempt by the SID. One SID belongs to one attempt.
create unique index sms_attempts_sid on sms_retry.sms_attempts (message_sid) where message_sid is not null;

-- Consent and time zone of a person. business_id '*' is every business.
create table sms_retry.sms_recipients (
    business_id        text not null,
    phone_number       text not null,
    consent            text not null default 'unknown' check (consent in ('opted_in', 'opted_out', 'unknown')),
    consent_changed_at timestamptz,
    time_zone          text,
    primary key (phone_number, business_id)
);

-- One delivery receipt as it came, with the delays that the policy granted its error.
create table sms_retry.sms_delivery_events (
    message_sid text not null,
    status      text not null,
    error_code  int,
    ticket      text,
    delays      interval[],
    spends      boolean not null default true,
    reason      text,
    received_at timestamptz not null default now(),
    constraint sms_delivery_events_once unique nulls not distinct (message_sid, status, error_code)
);

-- The table is in the order of arrival, so this index for the clean-up costs a receipt almost nothing.
create index sms_delivery_events_received on sms_retry.sms_delivery_events using brin (received_at);

-- A hold that is set. When its time is up, one message probes it, and the hold continues for another `wait`.
create table sms_retry.sms_holds (
    scope          text not null check (scope in ('account', 'sender', 'country', 'recipient')),
    key            text not null,
    until          timestamptz not null,
    wait           interval not null,
    reason         text not null,
    probe_id       bigint,
    probe_attempt  int,
    opened_at      timestamptz not null default now(),
    primary key (scope, key)
);

-- An operator's override of one line of the release's table of codes; the columns are those of that table.
create table sms_retry.sms_error_overrides (
    code         int primary key check (code > 0),
    verdict      text not null check (verdict in ('retry', 'final', 'hold', 'opt_out', 'unknown')),
    strategy     text not null default '' check (strategy in ('', 'immediate', 'linear', 'exponential', 'schedule')),
    base_seconds int not null default 0 check (base_seconds between 0 and 86400),
    retries      int not null default 0 check (retries between 0 and 5),
    scope        text not null default '' check (scope in ('', 'account', 'sender', 'country', 'recipient')),
    spends       boolean not null default true,
    reason       text not null,
    constraint hold_has_a_scope check ((verdict = 'hold') = (scope <> '')),
    constraint hold_has_a_length check (verdict <> 'hold' or base_seconds > 0),
    constraint growing_has_a_base check (strategy not in ('linear', 'exponential') or base_seconds > 0 and retries > 0)
);

-- The most messages to one number in 24 hours, without emergencies. business_id '*' limits all businesses together.
create table sms_retry.sms_limits (
    business_id    text primary key,
    messages_a_day int not null check (messages_a_day > 0)
);

-- A claimed message with all that a worker needs to judge and send it.
create type sms_retry.claimed_sms as (
    id                  bigint,
    attempt             int,
    message_id          bigint,
    business_id         text,
    to_number           text,
    body                text,
    kind                text,
    time_zone           text,
    recipient_time_zone text,
    consent             text,
    expires_at          timestamptz,
    held_until          timestamptz,
    limited_until       timestamptz,
    claimed_at          timestamptz
);

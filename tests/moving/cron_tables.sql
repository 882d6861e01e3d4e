-- The tables of a cron route that sends texts, before it moves.
create table public.customers (
    id                 int generated always as identity primary key,
    business_id        int not null,
    phone              text,
    sms_consent_status text not null check (sms_consent_status in ('opted_in', 'opted_out', 'pending')),
    timezone           text,
    updated_at         timestamptz not null default now()
);
create table public.send_logs (
    id           int generated always as identity primary key,
    business_id  int not null,
    customer_id  int not null references public.customers,
    body         text not null,
    message_type text not null,
    twilio_sid   text,
    status       text not null check (status in ('queued', 'sent', 'delivered', 'undelivered', 'failed')),
    error_code   text,
    created_at   timestamptz not null default now()
);
create table public.sms_retry_queue (
    id            int generated always as identity primary key,
    send_log_id   int not null references public.send_logs,
    reason        text not null,
    attempt_count int not null,
    scheduled_for timestamptz not null default now(),
    status        text not null check (status in ('pending', 'processing', 'sent', 'failed')),
    updated_at    timestamptz not null default now()
);

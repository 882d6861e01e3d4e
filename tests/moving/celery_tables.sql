-- The tables of a Celery service that sends texts, before it moves.
create table public.users (
    id           int generated always as identity primary key,
    phone_number text,
    sms_enabled  boolean,
    timezone     text,
    updated_at   timestamptz not null default now()
);
create table public.sms_usage_logs (
    id           int generated always as identity primary key,
    user_id      int not null references public.users,
    phone_number text not null,
    message      text not null,
    message_sid  text,
    status       text not null,
    error_code   text,
    created_at   timestamptz not null default now()
);
create table public.sms_retry_queue (
    id            int generated always as identity primary key,
    user_id       int not null references public.users,
    phone_number  text not null,
    message       text not null,
    message_sid   text,
    status        text not null check (status in ('pending', 'retrying', 'failed', 'delivered')),
    error_code    text,
    retry_count   int not null default 0,
    next_retry_at timestamptz not null default now(),
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);

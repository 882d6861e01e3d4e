-- When a report allows the next send of its message; null is never. The delays are those of finish_sms_retries.
create or replace function sms_retry.sms_next_try(
    outcome          text,
    delays           interval[],
    spends           boolean,
    retry_count      int,
    max_retries      int,
    claimed_at       timestamptz,
    resend_forbidden boolean
) returns timestamptz
language sql stable
as $$
    select case
        -- The message was called off, its person opted out, or its text is erased.
        when resend_forbidden then null
        -- A deferral sent nothing: its delay counts from the claim.
        when outcome = 'deferred' then claimed_at + delays[1]
        -- An outcome that is not a failure has no next send.
        when outcome not in ('refused', 'undelivered', 'failed') then null
        -- A failure that spends no retry always waits for the first delay.
        when not spends then now() + delays[1]
        -- A failure that spends a retry waits for the delay of that retry; without a retry or a delay left it is final.
        when retry_count < max_retries then now() + delays[retry_count + 1]
    end;
$$;

-- The entry for applications: takes a message in, once per key, and returns its id. White space at the ends of the text is
-- removed. A key of a message with another recipient, text, media or content template is refused. After an opt-out of the
-- person the message fails at once. A message without a sender has the sender of its business, or (null) of the deployment. A
-- message with media or a content template needs no text. Without an expires_at it expires three days after its time. With an
-- error_code the first send has failed already:
--   with delays, or null       it waits for the first delay (null: one minute), and has spent a retry
--   with a scheduled_for       it waits until then, and has spent no retry
--   with empty delays          it has failed
create or replace function sms_retry.queue_sms_retry(
    to_number     text,
    body          text,
    message_key   text = null,
    business_id   text = 'default',
    kind          text = 'transactional',
    on_unknown    text = 'resend',
    time_zone     text = null,
    scheduled_for timestamptz = null,
    expires_at    timestamptz = null,
    error_code    int = null,
    error_message text = null,
    delays        interval[] = null,
    sender        text = null,
    batch         text = null,
    media_urls    text[] = null,
    content_sid   text = null,
    content_variables jsonb = null
) returns bigint
language plpgsql security definer set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
<<this>>
declare
    id       bigint;
    queue_id bigint;
    is_same  boolean;
    has_parts boolean := queue_sms_retry.media_urls is not null or queue_sms_retry.content_sid is not null;
    kept     text := coalesce(sms_text(queue_sms_retry.body), case when has_parts then '' end);
    origin   text := coalesce(queue_sms_retry.sender, (
                 select s.sender from sms_senders s where s.business_id = queue_sms_retry.business_id));
    spelled  text := sms_number(queue_sms_retry.to_number);
    has_failed boolean := queue_sms_retry.error_code is not null and queue_sms_retry.scheduled_for is null;
    is_final   boolean := has_failed and coalesce(queue_sms_retry.delays = '{}', false);
    due        timestamptz := coalesce(queue_sms_retry.scheduled_for,
                   case when has_failed and not is_final
                       then now() + coalesce(queue_sms_retry.delays[1], interval '1 minute') end,
                   now());
    expiry     timestamptz := coalesce(queue_sms_retry.expires_at,
                   greatest(now(), queue_sms_retry.scheduled_for) + interval '3 days');
    opted_out  boolean := (
                   select sms_consent(own.consent, everybodys.consent) = 'opted_out' or queue_sms_retry.kind = 'marketing'
                       and sms_consent(own.consent, everybodys.consent) <> 'opted_in'
                   from (values (spelled)) person (phone_number)
                   left join sms_recipients own on own.phone_number = person.phone_number
                       and own.business_id = queue_sms_retry.business_id
                   left join sms_recipients everybodys on everybodys.phone_number = person.phone_number
                       and everybodys.business_id = '*');
    queued     text := case when opted_out or is_final then 'failed' when has_failed and due >= expiry then 'expired'
                   else 'pending' end;
    faults     text := nullif(concat_ws('; ', sms_message_faults(spelled, kept, queue_sms_retry.business_id,
                   queue_sms_retry.kind, queue_sms_retry.on_unknown, queue_sms_retry.scheduled_for,
                   queue_sms_retry.expires_at, queue_sms_retry.sender, queue_sms_retry.batch, queue_sms_retry.media_urls,
                   queue_sms_retry.content_sid, queue_sms_retry.content_variables),
                   case when queue_sms_retry.message_key = '' then 'message_key must not be empty' end,
                   case when not sms_zone_is_known(queue_sms_retry.time_zone)
                       then 'time_zone must be an IANA time zone that this database knows, such as America/New_York' end), '');
begin
    if faults is not null then
        raise exception 'nothing was stored: %', faults using errcode = 'invalid_parameter_value';
    end if;
    queue_sms_retry.to_number := spelled;

    insert into sms_messages
        (message_key, business_id, to_number, body, kind, on_unknown, time_zone, expires_at, status,
         error_code, error_message, retry_count, sender, batch, segments, media_urls, content_sid, content_variables)
    values
        (queue_sms_retry.message_key, queue_sms_retry.business_id, queue_sms_retry.to_number, kept,
         queue_sms_retry.kind, queue_sms_retry.on_unknown, queue_sms_retry.time_zone, expiry,
         case queued when 'pending' then 'queued' else queued end,
         queue_sms_retry.error_code, queue_sms_retry.error_message, (has_failed and queued = 'pending')::int,
         nullif(origin, '*'), queue_sms_retry.batch, sms_segments(kept), queue_sms_retry.media_urls,
         queue_sms_retry.content_sid, queue_sms_retry.content_variables)
    on conflict (business_id, message_key) where message_key is not null do nothing
    returning sms_messages.id into this.id;

    if this.id is null then
        -- The text of a message that ended may be erased.
        select m.id, m.to_number = queue_sms_retry.to_number and sms_has_same_parts(m.body, m.media_urls, m.content_sid,
            m.content_variables, kept, queue_sms_retry.media_urls, queue_sms_retry.content_sid,
            queue_sms_retry.content_variables) into this.id, is_same
        from sms_messages m
        where m.business_id = queue_sms_retry.business_id and m.message_key = queue_sms_retry.message_key;
        if this.id is null then
            raise exception 'nothing was stored: the message of this message_key was removed meanwhile: queue it again'
                using errcode = 'serialization_failure';
        end if;
        if not is_same then
            raise exception
                'nothing was stored: message_key belongs to a message with another to_number, body, media or content template'
                using errcode = 'invalid_parameter_value', hint = 'Give each message its own key.';
        end if;
        return this.id;
    end if;

    insert into sms_retry_queue
        (message_id, lane, status, scheduled_for, retry_count, last_error_code, reason, finished_at)
    values (this.id, sms_lane(queue_sms_retry.kind, queue_sms_retry.business_id, nullif(origin, '*'), has_parts), queued,
            due, (has_failed and queued = 'pending')::int,
            queue_sms_retry.error_code,
            case when opted_out then 'opted_out' when queue_sms_retry.error_code is not null then 'first_send_failed' end,
            case when queued <> 'pending' then now() end)
    returning sms_retry_queue.id into this.queue_id;

    if queued <> 'pending' then
        insert into sms_outbox (type, message_id, message_key, business_id, batch, error_code, reason)
        select queued, this.id, queue_sms_retry.message_key, queue_sms_retry.business_id, queue_sms_retry.batch,
            queue_sms_retry.error_code, case when opted_out then 'opted_out' else 'first_send_failed' end
        where queued in (select e.type from sms_event_types e);
    end if;
    if queue_sms_retry.error_code is not null then
        insert into sms_attempts (queue_id, attempt, outcome, error_code, error_message)
        values (this.queue_id, 0, 'refused', queue_sms_retry.error_code, queue_sms_retry.error_message);
    end if;
    return this.id;
end
$$;

-- Takes in a message that the application has sent itself, so that a failed delivery of it is retried like any other.
-- Without a SID the message is unknown: Twilio is asked, as after a POST of our own that got no answer.
create or replace function sms_retry.log_sent_sms(
    provider_sid text,
    to_number    text,
    body         text,
    message_key  text = null,
    business_id  text = 'default',
    kind         text = 'transactional',
    on_unknown   text = 'resend',
    time_zone    text = null,
    expires_at   timestamptz = null,
    sender       text = null,
    batch        text = null,
    media_urls   text[] = null,
    content_sid  text = null,
    content_variables jsonb = null
) returns bigint
language plpgsql set search_path = sms_retry, pg_temp
as $$
#variable_conflict use_column
<<this>>
declare
    id       bigint;
    queue_id bigint;
    is_theirs boolean;
begin
    select m.id, sms_number(m.to_number) = sms_number(log_sent_sms.to_number) into this.id, is_theirs
    from sms_attempts a
    join sms_retry_queue q on q.id = a.queue_id
    join sms_messages m on m.id = q.message_id
    where a.message_sid = log_sent_sms.provider_sid;
    if this.id is not null then
        if not is_theirs then
            raise exception 'nothing was stored: provider_sid belongs to a message with another to_number'
                using errcode = 'invalid_parameter_value';
        end if;
        return this.id;
    end if;

    this.id := queue_sms_retry(to_number => log_sent_sms.to_number, body => log_sent_sms.body,
        message_key => log_sent_sms.message_key, business_id => log_sent_sms.business_id, kind => log_sent_sms.kind,
        on_unknown => log_sent_sms.on_unknown, time_zone => log_sent_sms.time_zone, expires_at => log_sent_sms.expires_at,
        sender => log_sent_sms.sender, batch => log_sent_sms.batch, media_urls => log_sent_sms.media_urls,
        content_sid => log_sent_sms.content_sid, content_variables => log_sent_sms.content_variables);

    with sent as (
        -- Attempt 0: no worker has claimed the row, so no worker has sent the message or is about to.
        update sms_retry_queue q set status = 'processing',
            -- The application may have sent it a while ago, and Twilio's list is searched from this instant on.
            claimed_at = now() - interval '5 minutes',
            finished_at = null
        -- Also a message that queue_sms_retry has just ended because the person opted out: the application has sent it.
        where q.message_id = this.id and q.attempt = 0
            and (q.status = 'pending' or q.status = 'failed' and q.reason = 'opted_out' and not q.body_erased)
        returning q.id
    ),
    withdrawn as (
        -- The message has not ended after all.
        delete from sms_outbox o
        where o.message_id = this.id and o.type = 'failed' and o.leased_until is null and exists (select from sent)
    )
    select sent.id into this.queue_id from sent;
    if this.queue_id is not null then
        perform finish_sms_retries(array[this.queue_id], array[0],
            array[case when log_sent_sms.provider_sid is null then 'unknown' else 'accepted' end],
            array[log_sent_sms.provider_sid]);
    end if;
    return this.id;
end
$$;

-- The media and the content template of a message.
create or replace function sms_retry.sms_message_parts(message_id bigint)
returns table (media_urls text[], content_sid text, content_variables jsonb)
language sql stable set search_path = sms_retry, pg_temp
as $$
    select m.media_urls, m.content_sid, m.content_variables from sms_messages m where m.id = sms_message_parts.message_id;
$$;

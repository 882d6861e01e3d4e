-- Whether release 0.1 can send a message: it has no sender of its own, no media and no content template.
create or replace function sms_retry.sms_is_former(message_id bigint) returns boolean
language sql stable set search_path = sms_retry, pg_temp
as $$
    select m.sender is null and m.media_urls is null and m.content_sid is null
    from sms_messages m where m.id = sms_is_former.message_id;
$$;

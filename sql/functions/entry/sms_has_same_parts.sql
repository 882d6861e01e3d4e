-- Rule: has a message that is sent again under its key the parts that are stored? The text, the media and the variables of a
-- message that ended may be erased, and a template stays.
create or replace function sms_retry.sms_has_same_parts(
    stored_body text, stored_media text[], stored_template text, stored_variables jsonb,
    body text, media_urls text[], content_sid text, content_variables jsonb
) returns boolean
language sql immutable
as $$
    select stored_template is not distinct from content_sid and (stored_body is null or stored_body = body
        and stored_media is not distinct from media_urls and stored_variables is not distinct from content_variables);
$$;

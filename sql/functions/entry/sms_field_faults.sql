-- Names every field of a message in JSON that queue_sms_retries does not know, or whose value has the wrong type, in one text;
-- null where all are right. A name that no field could have may be private, and is not repeated.
create or replace function sms_retry.sms_field_faults(message jsonb) returns text
language sql immutable set search_path = sms_retry, pg_temp
as $$
    select case when jsonb_typeof(message) <> 'object' then 'the message must be a JSON object' else (
        select string_agg(case
            when not f.key in ('to', 'body', 'message_key', 'business_id', 'kind', 'on_unknown', 'time_zone', 'scheduled_for',
                    'expires_at', 'sender', 'batch', 'media_urls', 'content_sid', 'content_variables')
                then case when f.key ~ '^[A-Za-z_]{1,40}$' then f.key else 'one name' end || ' is not a field of this event'
            when f.key in ('message_key', 'business_id') then f.key || ' must be text of 1 to 255 characters'
            else f.key || ' must be text'
        end, '; ')
        from jsonb_each(message) f
        where case
            when f.key in ('media_urls', 'content_variables') then false
            when f.key in ('message_key', 'business_id')
                then jsonb_typeof(f.value) <> 'null'
                    and not (jsonb_typeof(f.value) = 'string' and char_length(f.value #>> '{}') between 1 and 255)
            when f.key in ('to', 'body', 'kind', 'on_unknown', 'time_zone', 'scheduled_for', 'expires_at', 'sender', 'batch',
                    'content_sid')
                then not jsonb_typeof(f.value) in ('string', 'null')
            else true
        end) end;
$$;

-- Whether these are 1 to 10 https URLs of at most 2,000 characters.
create or replace function sms_retry.sms_media_are_valid(media_urls text[]) returns boolean
language sql immutable strict
as $$
    select cardinality(media_urls) between 1 and 10 and array_position(media_urls, null) is null and not exists (
        select from unnest(media_urls) url where url !~ '^https://[^[:space:]]+$' or char_length(url) > 2000);
$$;

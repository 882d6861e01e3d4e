-- A text without white space at its ends, which Twilio would remove: the characters that Python's str.strip removes.
create or replace function sms_retry.sms_text(body text) returns text
language sql immutable
as $$
    select btrim(body, E'\t\n\u000b\f\r\u001c\u001d\u001e\u001f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006'
        || E'\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000');
$$;

-- The segments of a text as Twilio bills them. GSM-7: 160 characters in one segment, 153 in each of several; an extension
-- character counts two. Otherwise UCS-2: 70 code units in one segment, 67 in each of several. The two halves of an extension
-- character or of a surrogate pair never lie in two segments. A message without a text has one segment.
-- https://www.twilio.com/docs/glossary/what-sms-character-limit
create or replace function sms_retry.sms_segments(body text) returns int
language plpgsql immutable
as $$
declare
    is_gsm  boolean;
    doubles text;
    single  int;
    several int;
    units   int := coalesce(char_length(body), 0);
    twos    int;
    used    int := 0;
    counted int := 1;
begin
    -- Most texts end here: so few characters have one segment in either alphabet, even if each counts two.
    if units <= 35 then
        return 1;
    end if;
    is_gsm := body ~ E'^[@£$¥èéùìòÇ\\n\\f\\rØøÅåΔ_ΦΓΛΩΠΨΣΘΞ^{}\\[~\\]|€\\\\ÆæßÉ !"#¤%&\'()*+,\\-./0-9:;<=>?¡A-ZÄÖÑÜ§¿a-zäöñüà]*$';
    doubles := case when is_gsm then E'[\f^{}\\[\\]~\\\\|€]' else E'[\U00010000-\U0010ffff]' end;
    single := case when is_gsm then 160 else 70 end;
    several := case when is_gsm then 153 else 67 end;
    if 2 * units <= single then
        return 1;
    end if;
    twos := regexp_count(body, doubles);
    if units + twos <= single then
        return 1;
    elsif twos = 0 then
        return ceil(units::numeric / several);
    end if;
    for character in 1 .. units loop
        units := case when substr(body, character, 1) ~ doubles then 2 else 1 end;
        if used + units > several then
            counted := counted + 1;
            used := 0;
        end if;
        used := used + units;
    end loop;
    return counted;
end
$$;

-- Gives the holds that earlier releases set for ever, or for thousands of years, the longest time that a hold may last.
update sms_retry.sms_holds h
set wait = greatest(interval '0', least(interval '100 years', h.wait)), until = least(h.until, now() + interval '100 years')
where h.wait not between interval '0' and interval '100 years' or h.until > now() + interval '100 years';

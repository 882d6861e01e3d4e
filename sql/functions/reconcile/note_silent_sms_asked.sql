-- Records that Twilio was asked about these silent messages. The next questions follow 12, 24 and 72 hours after the
-- send, and after one hour for a probe that was asked about earlier. A message that Twilio no longer has (gone) is not asked
-- about again.
create or replace function sms_retry.note_silent_sms_asked(message_ids bigint[], gone boolean[]) returns void
language sql set search_path = sms_retry, pg_temp
as $$
    update sms_messages m
    set ask_at = case when not asked.gone then (
        select min(m.sent_at + step)
        from unnest(array[interval '1 hour', interval '12 hours', interval '24 hours', interval '72 hours']) as step
        where m.sent_at + step > now()) end
    from unnest(message_ids, note_silent_sms_asked.gone) as asked (id, gone)
    where m.id = asked.id and m.status = 'sent';
$$;

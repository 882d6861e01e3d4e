-- Sets the types of events that are written from now on: any of delivered, undelivered, failed, expired, cancelled, unknown
-- and reply. Without a type nothing is written. Events that wait stay.
create or replace function sms_retry.subscribe_sms_events(types text[]) returns void
language plpgsql set search_path = sms_retry, pg_temp
as $$
begin
    if not coalesce(types, '{}') <@ array['delivered', 'undelivered', 'failed', 'expired', 'cancelled', 'unknown', 'reply'] then
        raise exception 'nothing was stored: types must be delivered, undelivered, failed, expired, cancelled, unknown or reply'
            using errcode = 'invalid_parameter_value';
    end if;
    delete from sms_event_types t where not t.type = any (coalesce(types, '{}'));
    insert into sms_event_types (type) select distinct t.type from unnest(types) as t (type) on conflict do nothing;
end
$$;

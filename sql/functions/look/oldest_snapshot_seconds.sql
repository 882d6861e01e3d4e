-- The age (seconds) of the oldest transaction that keeps vacuum from removing dead rows. Only a member of pg_monitor
-- sees the transactions of other roles.
create or replace function sms_retry.oldest_snapshot_seconds() returns int
language sql stable
as $$
    select coalesce(extract(epoch from now() - min(since))::int, 0)
    from (
        select xact_start as since from pg_stat_activity
        where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
            and (backend_xmin is not null or backend_xid is not null)
        union all
        select prepared from pg_prepared_xacts where database = current_database()
    ) transactions;
$$;

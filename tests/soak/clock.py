"""A clock that runs with the real one and can go forward: the rows keep their values, and no table is rewritten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import psycopg

from local.twilio import account as twilio_account
from tests.simulation.clock import PATH, replace_now

# A migration replaces the functions; the trigger gives each new one the clock in the same transaction.
CLOCK = f"""
create schema virtual_time;
create table virtual_time.clock (ahead interval not null);
insert into virtual_time.clock values ('0');
create function virtual_time.now() returns timestamptz language plpgsql stable as
$$ begin return pg_catalog.now() + (select ahead from virtual_time.clock); end $$;
create function virtual_time.keep() returns event_trigger language plpgsql as $$
declare
    new_function text;
begin
    for new_function in
        select c.object_identity from pg_event_trigger_ddl_commands() c join pg_proc p on p.oid = c.objid
        where c.schema_name = 'sms_retry' and p.prosrc ~ '\\mnow\\(\\)'
    loop
        execute format('alter function %s set search_path = {PATH}', new_function);
    end loop;
end $$;
create event trigger keep_virtual_time on ddl_command_end when tag in ('CREATE FUNCTION')
    execute function virtual_time.keep();
"""


class AheadClock:
    """Replaces the module `time` in the stand-in; it is `ahead` of the real clock (seconds)."""

    strftime, gmtime = staticmethod(time.strftime), staticmethod(time.gmtime)

    def __init__(self) -> None:
        self.ahead = 0.0

    @contextmanager
    def in_use(self, db: psycopg.Connection) -> Iterator[None]:
        """Make `db`, which is migrated and has no row, and every stand-in use this clock."""
        replace_now(db, CLOCK)
        with patch.object(twilio_account, "time", self):
            yield

    def go_forward(self, db: psycopg.Connection, by: timedelta) -> None:
        """Call it while no message is in flight: a worker's lease is counted by the real clock."""
        self.ahead += by.total_seconds()
        db.execute("update virtual_time.clock set ahead = %s * interval '1 second'", [self.ahead])

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

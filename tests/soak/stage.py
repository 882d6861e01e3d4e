"""The set-up of a soak: the stack with each function in its own process, and a clock that goes forward."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from local.aws.triggers import API_HOST
from local.postgres.server import Server
from local.stack import ENVIRONMENT, Stack
from local.stack import stack as local_stack
from local.twilio.stand_in import Behaviour
from tests import released
from tests.chaos.worker import CONCURRENCY
from tests.event_bus import event_bus
from tests.soak import traffic
from tests.soak.clock import AheadClock
from tests.soak.containers import functions, webhook
from tests.soak.days import RETENTION, Soak
from tests.soak.proof import TYPES

BEFORE = "0.1.0"
# Seconds for which a worker looks again for due messages.
LINGER = 1


@contextmanager
def soak(server: Server, seed: int) -> Iterator[Soak]:
    """A stack with its containers in their own processes, ready to run."""
    url, clock = server.create_database(f"sms_retry_soak_{os.getpid()}"), AheadClock()
    behaviour = Behaviour(traffic.step_for(seed), traffic.CALLBACKS, latency=0.02, list_lag=20, seed=seed)
    with ExitStack() as all_parts:
        parts = all_parts.enter_context(local_stack(url, behaviour))
        all_parts.enter_context(clock.in_use(parts.db))
        _settings(parts)
        bus = all_parts.enter_context(event_bus())
        root = released.files_of(BEFORE, Path(all_parts.enter_context(tempfile.TemporaryDirectory())))
        environment = {
            **bus.environment,
            "DATABASE_URL": url,
            "TWILIO_API_URL": parts.twilio.url,
            "SEND_CONCURRENCY": str(CONCURRENCY),
            "KEEP_MESSAGES_DAYS": str(RETENTION.days),
            "EVENT_TYPES": ",".join(TYPES),
        }
        lingering = environment | {"LINGER_SECONDS": str(LINGER)}
        scheduled = ("process_retries", "reconcile", "publish_events", "health_check", "cleanup_retries", "migrate")
        containers = {
            "the worker": functions(lingering, "process_retries"),
            "the scheduled functions": functions(environment, *scheduled),
            "send_sms": functions(environment, "send_sms"),
            "the webhook": webhook(environment),
        }
        for container in containers.values():
            all_parts.callback(container.close)
        containers["the scheduled functions"].invoke("migrate")
        origins = (ENVIRONMENT["PUBLIC_WEBHOOK_URL"], f"https://{API_HOST}")
        parts.twilio.route = dict.fromkeys(origins, containers["the webhook"].url)
        victim = functions(lingering, "process_retries")
        run = Soak(parts, server, bus, clock, root, lingering, containers, victim, seed)
        all_parts.callback(lambda: run.victim.close())
        yield run


def _settings(parts: Stack) -> None:
    """A vacuum looks at the tables as often in a day as in reality, and the paced sender and the consents."""
    parts.db.execute("alter system set autovacuum_naptime = '1s'")
    parts.db.execute("select pg_reload_conf()")
    paced = [traffic.PACED.name, traffic.PACED.business_id, traffic.PACED.pace]
    parts.db.execute("select sms_retry.set_sms_sender(%s, %s, %s::numeric)", paced)
    for business, number in sorted(traffic.OPTED_IN):
        parts.db.execute("select sms_retry.set_sms_consent(%s, %s, 'opted_in')", [business, number])

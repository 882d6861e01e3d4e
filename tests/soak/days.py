"""One day after the other: minutes of mixed traffic with kills and restarts, then the rest of the day passes in steps.

Each day has as many messages as every other, so the sizes do not depend on the speed of the machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

import psycopg

from local.postgres.server import Server, embedded_programs
from local.stack import ENVIRONMENT, Stack
from tests.event_bus import Bus
from tests.simulation.plan import HOUR, MINUTE, Text
from tests.soak import samples, traffic
from tests.soak.clock import AheadClock
from tests.soak.containers import Container, Failed, functions
from tests.soak.proof import Proof, forged

# A day after its traffic: minutes until retries, recovery and Twilio's list decide; then the hours of all zones.
STEPS = [by * MINUTE for by in (1, 5, 10, 25, 80)] + [by * HOUR for by in (2, 3, 3, 4, 4)]
DAY = 24 * HOUR
RETENTION = timedelta(days=7)
# At the end, after the last traffic: every message has ended by then.
LAST_DAYS = 6
# Every so many days: a crash of the database, and an outage of Twilio.
RESTART, OUTAGE = 7, 12
# The share of the whole time at which each comes.
RESTORE_AT, BEFORE_AT, MIGRATE_AT = 0.15, (0.4, 0.6), 0.5
# The traffic of a day is over when nothing is due, and at the latest after so long (seconds).
LONGEST = 8.0
DUE = "select count(*) from sms_retry.sms_retry_queue where status = 'pending' and scheduled_for <= virtual_time.now()"
OPENED = "select from sms_retry.open_sms_hold('account', '*', '7 days', 'by_hand')"
CLOSED = "select from sms_retry.close_sms_hold('account', '*')"


@dataclass
class Soak:
    """The running parts, and the record of a soak. `minutes` are those since its start, one for each day.

    `containers` live for the whole time; `victim` is the worker that is killed next.
    """

    parts: Stack
    server: Server
    bus: Bus
    clock: AheadClock
    release_before: Path
    environment: dict[str, str]
    containers: dict[str, Container]
    victim: Container
    seed: int
    proof: Proof = field(default_factory=Proof)
    days: list[dict[str, float]] = field(default_factory=list)
    minutes: list[float] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    news: list[tuple[float, str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def run(self, minutes: float) -> None:
        """Days until the time is over, then the days in which the last messages end."""
        while (share := self._elapsed() / minutes) < 1:
            self._day(share)
            if len(self.days) % 10 == 0:
                print(f"{len(self.days)} days in {self._elapsed():.1f} minutes", file=sys.stderr)
        for _ in range(LAST_DAYS):
            self._pass_a_day()
        self._compare()

    def _day(self, share: float) -> None:
        day, rng = len(self.days), Random(f"{self.seed} {len(self.days)}")
        self._replies(day)
        texts = traffic.texts_of(day, self.clock.now, rng)
        everyone = [text for each in texts.values() for text in each]
        self.proof.expect(everyone)
        self.done["messages"] += len(everyone)
        restores = share >= RESTORE_AT and not self.done["restores of a dump"]
        with tempfile.TemporaryDirectory() as folder:
            dump = Path(folder, "dump")
            if restores:
                dumped_at = self.clock.now
                _run("pg_dump", "--format=custom", "--schema=sms_retry", f"--file={dump}", self.parts.database_url)
            traffic.queue(self.parts.database_url, texts["first"])
            with self._connected() as db:
                claim = samples.claim_time(self.parts.database_url, db)
            found = {"claim of 50": claim, **self._traffic(day, share, texts, rng)}
            if restores:
                self._restore(dump, dumped_at, everyone)
        self._pass_a_day(is_outage=day % OUTAGE == OUTAGE - 1)
        with self._connected() as db:
            found |= {**samples.sizes(db), **samples.counts(db), **samples.memory(self.containers)}
        self.days.append(found)
        self.minutes.append(self._elapsed())

    def _traffic(self, day: int, share: float, texts: dict[str, list[Text]], rng: Random) -> dict[str, float]:
        """All of the day's texts, with the workers running, one of them killed, and receipts coming in."""
        started, url, over = time.monotonic(), self.parts.database_url, threading.Event()
        since = self.clock.time()
        acts: list[Callable[[], object]] = [
            partial(self._work, over, self.containers["the worker"]),
            partial(self._work_and_die, over, rng),
            partial(self._post_receipts, over),
        ]
        if BEFORE_AT[0] <= share < BEFORE_AT[1]:
            acts.append(partial(self._work_as_before, over))
            self._note("worker of the release before")
        if share >= MIGRATE_AT and not self.done["migrations under traffic"]:
            acts.append(self._migrate)
        if day % RESTART == RESTART - 1:
            acts.append(partial(self._restart, rng))
        if day % OUTAGE == OUTAGE - 1:
            self.parts.twilio.behave(down=True)
            self.done["outages of Twilio"] += 1
        with ThreadPoolExecutor(16) as threads:
            running = [threads.submit(act) for act in acts]
            queued = [
                threads.submit(traffic.queue_campaign, url, texts["campaign"], f"day-{day}"),
                threads.submit(traffic.send, self.containers["send_sms"], texts["send_sms"]),
                threads.submit(traffic.queue, url, texts["sql"]),
            ]
            otps = threads.submit(traffic.queue, url, texts["otp"], 0.05, self.clock.time)
            most = self._watch([*queued, otps], started + LONGEST)
            over.set()
            for each in [*running, *queued]:
                each.result()
        self.done["seconds of traffic"] += time.monotonic() - started
        posts = [post for post in self.parts.twilio.posts() if post.at >= since]
        self.done["POSTs"] += len(posts)
        self.proof.watch(posts, otps.result())
        return {"connections": most}

    def _watch(self, queued: list, give_up: float) -> float:
        """Wait until all texts are queued and nothing is due. Returns the most connections that were open."""
        most, due = 0.0, 1
        while not all(each.done() for each in queued) or (due and time.monotonic() < give_up):
            with suppress(psycopg.OperationalError), self._connected() as db:
                most = max(most, samples.connections(db))
                [(due,)] = db.execute(DUE).fetchall()
            time.sleep(0.1)
        return most

    def _work(self, over: threading.Event, worker: Container) -> None:
        """A failed invocation, as during the restart of the database, is repeated at the next tick."""
        while not over.is_set():
            try:
                worker.invoke("process_retries")
            except Failed:
                self.done["failed invocations"] += 1
                over.wait(0.1)

    def _work_and_die(self, over: threading.Event, rng: Random) -> None:
        """A worker is killed at a random moment. Another one takes its place until the next day."""
        victim = self.victim
        threading.Timer(rng.uniform(0.1, 1.5), victim.kill).start()
        while victim.process.is_alive():
            with suppress(Failed):
                victim.invoke("process_retries")
        victim.close()
        self.done["kills of a worker"] += 1
        self.victim = functions(self.environment, "process_retries")
        self._work(over, self.victim)

    def _work_as_before(self, over: threading.Event) -> None:
        worker = functions(self.environment, "process_retries", root=self.release_before)
        self._work(over, worker)
        worker.close()
        self.done["days with a worker of the release before"] += 1

    def _post_receipts(self, over: threading.Event) -> None:
        while not over.wait(0.02):
            self.parts.twilio.deliver_callbacks()

    def _migrate(self) -> None:
        """It is repeated if the database crashes meanwhile."""
        traffic.until_done(partial(self.containers["the scheduled functions"].invoke, "migrate"))
        self.done["migrations under traffic"] += 1
        self._note("migration")

    def _restart(self, rng: Random) -> None:
        time.sleep(rng.uniform(0.3, 1.5))
        self.server.restart()
        self.done["crashes of the database"] += 1

    def _restore(self, dump: Path, dumped_at: datetime, texts: list[Text]) -> None:
        """As docs/operating.md says. The application queues the day's messages again before the doubt."""
        with self._connected() as db:
            db.execute("drop schema sms_retry cascade")
        _run("pg_restore", "--no-owner", f"--dbname={self.parts.database_url}", dump)
        self.server.restart("fast")
        with self._connected() as db:
            db.execute(OPENED)
            traffic.queue(self.parts.database_url, texts)
            db.execute("select sms_retry.doubt_sms_since(%s)", [dumped_at])
            db.execute(CLOSED)
        self.done["restores of a dump"] += 1
        self._note("restore of a dump")

    def _replies(self, day: int) -> None:
        """One person replies STOP each day, and START four days later. No worker runs meanwhile."""
        for word, back in (("STOP", 0), ("START", 4)):
            person = traffic.STOPPING[(day - back) % len(traffic.STOPPING)].number
            url = ENVIRONMENT["PUBLIC_WEBHOOK_URL"] + "/twilio/inbound"
            sid = f"SM{day:031x}{back:x}"
            answers = self.parts.twilio.reply(url, person, ENVIRONMENT["TWILIO_SENDER"], word, MessageSid=sid)
            assert answers == (200,), answers
            self.proof.stopped.pop(person, None)
            if word == "STOP":
                self.proof.stopped[person] = self.clock.time()

    def _pass_a_day(self, is_outage: bool = False) -> None:
        """The functions and the receipts take turns in each step. The clean-up comes last, after the comparison of all
        messages that it may remove, and then a checkpoint, of which a real day has 288. A crash forgets the pages that
        became free in an index since the last one: without any, each crash makes each index longer.
        """
        scheduled = self.containers["the scheduled functions"]
        for n, step in enumerate(STEPS):
            if is_outage and n == 2:
                self.parts.twilio.behave(down=False)
            self._forward(step)
            self.parts.twilio.deliver_callbacks()
            self.done["claims of dead workers"] += scheduled.invoke("process_retries")["recovered"]
            for function in ("reconcile", "publish_events"):
                scheduled.invoke(function)
        self._forward(DAY - sum(STEPS, timedelta()))
        with self._connected() as db:
            self.proof.add("Forgeries are refused", forged(self.parts.twilio, db), 1)
        before = self.clock.now - RETENTION + HOUR
        self._compare(before)
        scheduled.invoke("health_check")
        scheduled.invoke("cleanup_retries")
        with self._connected() as db:
            db.execute("checkpoint")
        self.parts.twilio.forget(self.proof.needed_since(self.clock.now).timestamp())

    def _forward(self, by: timedelta) -> None:
        with self._connected() as db:
            self.clock.go_forward(db, by)

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.parts.database_url, autocommit=True) as db:
            yield db

    def _compare(self, before: datetime | None = None) -> None:
        with self._connected() as db:
            self.proof.compare(replace(self.parts, db=db), self.bus, before)

    def _elapsed(self) -> float:
        return (time.monotonic() - self.started) / 60

    def _note(self, event: str) -> None:
        if event not in [name for _, name in self.news]:
            self.news.append((self._elapsed(), event))


def _run(program: str, *arguments: str | Path) -> None:
    subprocess.run([embedded_programs() / program, *arguments], check=True, capture_output=True)

"""Budgets: never more segments than a budget allows are sent in its interval, under any number of workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from local.twilio.stand_in import Refuse, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import operate, runtime, worker
from sms_retry.__main__ import main
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Message
from tests.integration.examples import (
    assert_state,
    claimed,
    fill,
    finish,
    five_minutes_left,
    number,
    one,
    sid,
    statuses,
    take_in,
)

HOUR = timedelta(hours=1)


def set_budget(db: psycopg.Connection, scope: str, key: str, segments: int | None, per: timedelta = HOUR) -> None:
    db.execute("select sms_retry.set_sms_budget(%s, %s, %s, %s)", [scope, key, segments, per])


def spent(db: psycopg.Connection) -> int:
    return int(one(db, "select spent from sms_retry.sms_budgets"))


def waiting_for_budget(db: psycopg.Connection) -> int:
    statement = "select count(*) from sms_retry.sms_retry_queue where status = 'pending' and reason = 'budget'"
    return int(one(db, statement))


def test_four_workers_send_exactly_the_budget_and_the_rest_when_the_interval_turns(
    db: psycopg.Connection, database_url: str, stand_in: TwilioStandIn, send: Send
) -> None:
    set_budget(db, "account", "*", 500)
    fill(db, 700)

    def work(_: int) -> None:
        store = Store(lambda: database_url)
        worker.drain(store, send, five_minutes_left, concurrency=10)
        store.close()

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(4)))
    assert (len(stand_in.accepted()), waiting_for_budget(db), spent(db)) == (500, 200, 500)
    assert one(db, "select max(retry_count) from sms_retry.sms_retry_queue") == 0

    let_time_pass(db, hours=1, minutes=5)
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(4)))
    assert (len(stand_in.accepted()), spent(db)) == (700, 200)


@pytest.mark.parametrize(
    ("scope", "key", "sent"),
    [("business", "shop", [1, 3]), ("country", "+491760000000", [3]), ("kind", "transactional", [1, 2, 3])],
)
def test_a_budget_concerns_only_its_scope(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, scope: str, key: str, sent: list[int]
) -> None:
    set_budget(db, scope, key, 0)
    take_in(store, 1)
    store.queue(Message(number(2), "Hello.", kind="otp", business_id="shop"))
    store.queue(Message("+491771234567", "Hello.", kind="otp"))
    worker.drain(store, send, five_minutes_left, concurrency=1)
    names = {number(1): 1, number(2): 2, "+491771234567": 3}
    assert sorted(names[post.to] for post in stand_in.accepted()) == sent


@pytest.mark.parametrize(("per", "days"), [("1 month", 28.5), ("1 year", 365.1)])
def test_an_interval_of_months_or_years_allows_its_budget_once(
    db: psycopg.Connection, store: Store, per: str, days: float
) -> None:
    """A calendar's month or year is over before the 30 or 365.25 days of a budget."""
    db.execute("select sms_retry.set_sms_budget('account', '*', 3, %s::interval)", [per])
    db.execute("update sms_retry.sms_budgets set since = now() - make_interval(secs => %s)", [days * 86_400])
    fill(db, 10)
    allowed = [claim for _ in range(5) for claim in store.claim_due(2) if claim.budget_until is None]
    assert len(allowed) == 3


def test_a_budget_of_a_year_is_removed_by_the_interval_that_is_shown(db: psycopg.Connection, store: Store) -> None:
    db.execute("select sms_retry.set_sms_budget('account', '*', 3, '1 year')")
    [budget] = store.budgets()
    assert operate.interval(budget.per) == "8766h"
    operate.set_budget(store, "anna", "account", "*", None, budget.per)
    assert store.budgets() == []


def test_a_long_text_costs_its_segments_and_a_shorter_one_goes_instead(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    set_budget(db, "account", "*", 2)
    store.queue(Message(number(1), "a" * 320, kind="otp"))
    store.queue(Message(number(2), "a" * 306, kind="otp"))
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert [post.to for post in stand_in.accepted()] == [number(2)]
    assert spent(db) == 2


def test_messages_go_at_once_when_their_budget_is_raised_or_removed(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    set_budget(db, "account", "*", 1)
    fill(db, 3)
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert statuses(db) == {"sent": 1, "queued": 2}
    set_budget(db, "account", "*", 2)
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert statuses(db) == {"sent": 2, "queued": 1}
    set_budget(db, "account", "*", None)
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert statuses(db) == {"sent": 3}
    assert len(stand_in.accepted()) == 3


def test_a_message_outlives_a_budget_whose_interval_is_longer_than_its_life(
    db: psycopg.Connection, store: Store, send: Send
) -> None:
    set_budget(db, "account", "*", 1, timedelta(days=30))
    fill(db, 2)
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert statuses(db) == {"sent": 1, "queued": 1}
    set_budget(db, "account", "*", 2, timedelta(days=30))
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert statuses(db) == {"sent": 2}


def test_a_message_that_is_claimed_while_its_budget_is_raised_is_due_at_once(
    db: psycopg.Connection, store: Store
) -> None:
    set_budget(db, "account", "*", 0)
    message_id = take_in(store)
    [claim] = store.claim_due(1)
    set_budget(db, "account", "*", 1)
    finish(store, claim, "deferred", delays=(HOUR,), reason="budget")
    assert_state(db, message_id, message="queued", wait=0)


def test_a_message_of_the_night_takes_no_segments_from_one_of_the_day(db: psycopg.Connection, store: Store) -> None:
    set_budget(db, "account", "*", 1)
    take_in(store, 1)
    day = take_in(store, 2)
    first, second = store.claim_due(2)
    finish(store, first, "deferred", delays=(HOUR,), reason="quiet_hours")
    finish(store, second, "deferred", delays=(HOUR,), reason="budget")
    assert_state(db, day, message="queued", wait=0)
    assert spent(db) == 0


def test_a_stale_report_returns_no_segments(db: psycopg.Connection, store: Store) -> None:
    set_budget(db, "account", "*", 10)
    claim = claimed(store)
    finish(store, claim, "accepted", sid=sid())
    assert finish(store, claim, "refused", code=30001) is None
    assert spent(db) == 1


def test_a_refused_post_returns_its_segments_and_a_retry_of_a_delivery_spends_them_again(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    set_budget(db, "account", "*", 10)
    stand_in.plan(number(1), Refuse(429, 20429))
    message_id = take_in(store)
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert spent(db) == 0
    let_time_pass(db, minutes=20)
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert_state(db, message_id, message="sent")
    assert spent(db) == 1


def test_segments_of_an_earlier_interval_are_not_returned_to_the_present_one(
    db: psycopg.Connection, store: Store
) -> None:
    set_budget(db, "account", "*", 10)
    take_in(store, 1)
    [early] = store.claim_due(1)
    let_time_pass(db, hours=1, minutes=1)
    take_in(store, 2)
    store.claim_due(1)

    finish(store, early, "refused", code=21211)
    assert spent(db) == 1


def test_the_command_line_sets_shows_and_removes_a_budget(
    db: psycopg.Connection,
    store: Store,
    database_url: str,
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    runtime.store.cache_clear()
    assert main(["budget", "business", "default", "--segments", "1", "--per", "1h"]) in (0, None)
    fill(db, 2)
    worker.drain(store, send, five_minutes_left, concurrency=1)
    capsys.readouterr()
    main(["budgets"])
    main(["status"])
    shown = capsys.readouterr().out
    assert shown.count("business default: 1 of 1 segments per 1h") == 2
    main(["budget", "business", "default", "--remove", "--per", "1h"])
    main(["budgets"])
    assert "No budget is set." in capsys.readouterr().out
    actions = db.execute("select action, subject from sms_retry.sms_actions order by id").fetchall()
    assert actions[0] == ("budget", "business default: 1 segments per 1h")
    runtime.store(timedelta(0)).close()
    runtime.store.cache_clear()

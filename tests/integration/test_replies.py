"""Replies: a STOP takes consent away, a START gives it back and creates none, and each reply counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from local.postgres.server import Server
from sms_retry import delivery, operate
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.values import Claim, Receipt, Reply, Ticket
from tests import area_codes, released
from tests.integration.examples import (
    accepted,
    assert_state,
    claimed,
    fill,
    finish,
    in_parallel,
    number,
    one,
    sid,
    state_of,
    take_in,
    unknown,
    wait_until_blocked,
)

SIDS = count(1)


def hear(store: Store, *wishes: str | None, message_sid: str | None = None) -> None:
    """Apply replies of one person, each with a new SID unless it is given."""
    for wish in wishes:
        delivery.apply_reply(store, Reply(message_sid or f"SMreply{next(SIDS)}", number(), wish))


def consent(db: psycopg.Connection, business_id: str = "*") -> str:
    """The person's effective consent to the messages of a business."""
    return str(
        one(
            db,
            """select sms_retry.sms_consent(
                (select consent from sms_retry.sms_recipients where business_id = %s and phone_number = %s),
                (select consent from sms_retry.sms_recipients where business_id = '*' and phone_number = %s))""",
            [business_id, number(), number()],
        )
    )


@pytest.mark.parametrize(
    ("before", "wishes", "after"),
    [
        ("opted_in", ("stop",), "opted_out"),
        ("opted_in", ("stop", "start"), "opted_in"),
        ("opted_in", ("stop", "stop", "start"), "opted_in"),
        ("opted_in", ("stop", "start", "stop"), "opted_out"),
        ("opted_in", ("start",), "opted_in"),
        ("opted_in", (None,), "opted_in"),
        ("unknown", ("start",), "unknown"),
        ("unknown", ("stop", "start"), "unknown"),
        ("unknown", ("stop", "start", "start"), "unknown"),
        ("unknown", ("stop", None), "opted_out"),
    ],
)
@pytest.mark.parametrize("business_id", ["*", "shop"])
def test_a_start_gives_back_the_consent_that_a_stop_took_away(
    db: psycopg.Connection, store: Store, business_id: str, before: str, wishes: tuple[str | None, ...], after: str
) -> None:
    store.set_consent(business_id, number(), before)
    hear(store, *wishes)
    assert consent(db, business_id) == after


def test_a_yes_creates_no_consent_and_no_row(db: psycopg.Connection, store: Store) -> None:
    hear(store, "start")
    assert one(db, "select count(*) from sms_retry.sms_recipients") == 0


def test_yes_to_one_business_allows_no_marketing_of_another(db: psycopg.Connection, store: Store) -> None:
    take_in(store, business_id="clinic")
    hear(store, "start")

    marketing = take_in(store, business_id="shop", kind="marketing")

    assert_state(db, marketing, message="failed", reason="opted_out")


def test_a_repeated_reply_changes_nothing(db: psycopg.Connection, store: Store) -> None:
    """START, STOP, and the identical START again."""
    hear(store, "start", message_sid="SMstart")
    hear(store, "stop", message_sid="SMstop")
    hear(store, "start", message_sid="SMstart")
    assert consent(db) == "opted_out"

    hear(store, "start")
    hear(store, "stop", message_sid="SMstop")
    assert consent(db) == "unknown"


def test_a_reply_that_comes_twice_at_the_same_moment_counts_once(
    db: psycopg.Connection, open_store: Callable[[], Store]
) -> None:
    stores = [open_store() for _ in range(4)]
    stores[0].set_consent("*", number(), "opted_in")
    ended = in_parallel(4, lambda n: stores[n].take_reply("SMstop", number(), "stop"))
    assert sorted(map(str, ended)) == ["0", "None", "None", "None"]


def test_a_reply_that_was_not_stored_counts_when_it_comes_again(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    with psycopg.connect(database_url) as interrupted:
        interrupted.execute("select sms_retry.take_sms_reply('SMstop', %s, 'stop')", [number()])
        interrupted.rollback()
    assert store.take_reply("SMstop", number(), "stop") == 0
    assert consent(db) == "opted_out"


def test_a_stop_ends_every_message_that_waits_for_the_person(db: psycopg.Connection, store: Store) -> None:
    theirs, anothers = take_in(store), take_in(store, 2)
    hear(store, "stop")
    assert_state(db, theirs, message="failed", reason="opted_out")
    assert_state(db, anothers, message="queued")


def test_no_reply_ends_the_opt_out_of_an_operator(db: psycopg.Connection, store: Store) -> None:
    for stops_before, stops_after in (((), ()), (("stop",), ()), ((), ("stop",))):
        operate.set_consent(store, "anna", "*", number(), "opted_in")
        hear(store, *stops_before)
        operate.set_consent(store, "anna", "*", number(), "opted_out")
        hear(store, *stops_after, "start")
        assert consent(db) == "opted_out"


def test_a_stop_that_meets_the_release_of_an_unknown_message_is_stored(
    db: psycopg.Connection, open_store: Callable[[], Store]
) -> None:
    fill(db, 3_000)
    db.execute("update sms_retry.sms_messages set to_number = %s", [number()])
    stores = open_store(), open_store()
    for n in range(10):
        db.execute("delete from sms_retry.sms_recipients")
        claim = unknown(stores[0], 1, message_key=f"key-{n}")
        # The stop locks the 3,000 messages first, so that the release commits after it began and before its end.
        db.execute(
            "update sms_retry.sms_retry_queue set claimed_at = now() - interval '1 hour' where id = %s", [claim.id]
        )
        db.execute("update sms_retry.sms_retry_queue set status = 'pending', finished_at = null where id <= 3000")

        def act(which: int, claim: Claim = claim) -> object:
            return hear(stores[0], "stop") if which == 0 else stores[1].release_unknown([claim.ticket], ["absent"])

        in_parallel(2, act)
        assert consent(db) == "opted_out"


def test_a_repeated_receipt_opts_nobody_out_again(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    stop = Receipt(sid(), "undelivered", 21610, None, number())
    delivery.record(store, stop, one(db, "select now()"))
    hear(store, "start")
    assert delivery.record(store, stop, one(db, "select now()")).answer == "repeated"
    assert consent(db) == "unknown"


def test_a_repeated_report_of_a_worker_opts_no_person_out_again(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    finish(store, claim, "refused", code=21610, reason="opted_out")
    hear(store, "start")
    finish(store, claim, "refused", code=21610, reason="opted_out")
    assert consent(db) == "unknown"


def test_a_start_leaves_the_opt_out_from_one_business(db: psycopg.Connection, store: Store) -> None:
    store.set_consent("shop", number(), "opted_out")
    hear(store, "stop", "start")
    assert (consent(db, "shop"), consent(db)) == ("opted_out", "unknown")


def test_a_start_gives_back_the_consent_after_a_refusal_by_twilio(db: psycopg.Connection, store: Store) -> None:
    store.set_consent("*", number(), "opted_in")
    accepted(store)
    delivery.record(store, Receipt(sid(), "undelivered", 21610, None, number()), one(db, "select now()"))
    assert consent(db) == "opted_out"
    hear(store, "start")
    assert consent(db) == "opted_in"


@pytest.mark.parametrize(
    ("sender", "of_the_deployment", "expected"),
    [
        ("+18005550100", "", "opted_out"),
        ("", "+18885550100", "opted_out"),
        ("+14155550100", "+18885550100", "unknown"),
        ("+14155550100", "", "unknown"),
        ("", "MG" + "0" * 32, "unknown"),
    ],
)
def test_a_stop_to_a_toll_free_number_is_an_opt_out(
    db: psycopg.Connection, store: Store, sender: str, of_the_deployment: str, expected: str
) -> None:
    claim = accepted(store)
    ticket = Ticket(claim.id, claim.attempt)
    blocked = Receipt(sid(), "undelivered", 30004, ticket, number(), sender)
    delivery.record(store, blocked, one(db, "select now()"), sender=of_the_deployment)
    assert consent(db) == expected
    assert state_of(db).message == "undelivered"


def test_an_override_of_30004_outweighs_the_opt_out(db: psycopg.Connection, store: Store) -> None:
    db.execute(
        "insert into sms_retry.sms_error_overrides (code, verdict, reason) values (30004, 'final', 'our own reading')"
    )
    accepted(store)
    blocked = Receipt(sid(), "undelivered", 30004, None, number(), "+18005550100")
    delivery.record(store, blocked, one(db, "select now()"))
    assert consent(db) == "unknown"


def test_an_erased_person_stays_opted_out_and_a_start_gives_no_consent_back(
    db: psycopg.Connection, store: Store
) -> None:
    store.set_consent("*", number(), "opted_in")
    hear(store, "stop")
    operate.erase(store, "anna", number())
    assert consent(db) == "opted_out"
    hear(store, "start")
    assert consent(db) == "unknown"


def test_a_stop_waits_for_another_reply_of_the_person(db: psycopg.Connection, store: Store, database_url: str) -> None:
    """A START and a STOP that meet take effect one after the other: the later one counts."""
    hear(store, "stop")
    with psycopg.connect(database_url) as other:
        other.execute("select sms_retry.take_sms_reply('SMstart', %s, 'start')", [number()])

        def work(n: int) -> None:
            if n:
                wait_until_blocked(db, other)
                other.commit()
            else:
                hear(store, "stop")

        in_parallel(2, work)
    assert consent(db) == "opted_out"


@pytest.fixture
def of_release_0_1(server: Server, worker_id: str, tmp_path: Path) -> Iterator[str]:
    """A database that release 0.1 migrated."""
    name = f"replies_{worker_id}_{next(SIDS)}"
    url = server.create_database(name)
    released.migrate("0.1.0", url, tmp_path)
    yield url
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def test_a_start_ends_an_opt_out_of_release_0_1_without_granting_consent(of_release_0_1: str) -> None:
    url = of_release_0_1
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("select sms_retry.set_sms_consent('*', %s, 'opted_out')", [number()])
        migrate(url)
        store = Store(lambda: url)
        hear(store, "start")
        store.close()
        assert consent(db) == "unknown"


def test_with_the_functions_of_release_0_1_a_stop_counts_and_a_start_grants_nothing(
    of_release_0_1: str, tmp_path: Path
) -> None:
    url = of_release_0_1
    migrate(url)
    released.migrate("0.1.0", url, tmp_path)
    store = Store(lambda: url)
    with psycopg.connect(url, autocommit=True) as db:
        hear(store, "start")
        assert one(db, "select count(*) from sms_retry.sms_recipients") == 0
        waiting = take_in(store)
        hear(store, "stop", "start")
        store.close()
        assert consent(db) == "opted_out"
        assert_state(db, waiting, message="failed")


def test_the_functions_of_release_0_1_work_on_the_tables_of_this_release(of_release_0_1: str, tmp_path: Path) -> None:
    url = of_release_0_1
    migrate(url)
    store = Store(lambda: url)
    hear(store, "stop")
    released.migrate("0.1.0", url, tmp_path)
    with psycopg.connect(url, autocommit=True) as db:
        for wanted in ("opted_in", "opted_out", "unknown"):
            store.set_consent("*", number(), wanted)
            assert consent(db) == wanted
        db.execute("insert into sms_retry.sms_limits values ('*', 2)")
        take_in(store)
        assert [claim.limited_until for claim in store.claim_due(1)] == [None]
        store.close()


def test_the_area_codes_of_sql_are_those_of_python() -> None:
    assert area_codes.FILE.read_text() == area_codes.area_codes(), "run `make data`"

"""Reconcile: only a listed message that can be ours settles an unknown, and without an answer nothing is settled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from twilio.rest import Client

from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, BadAnswer, Refuse, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import delivery, listing, matching, reconcile, worker
from sms_retry.listing import SentTo
from sms_retry.matching import Listed, NoAnswer, Page
from sms_retry.reconcile import Findings
from sms_retry.store import Store
from sms_retry.twilio import Credentials, Send, Wire
from sms_retry.values import Accepted, Message, Report
from tests.integration.examples import accepted, assert_state, fill, five_minutes_left, number, sid, statuses, take_in
from tests.integration.plans import nodes, plan

Change = Callable[[Page], Page]

TRIAL = "Sent from your Twilio trial account - "
FUNCTIONS = Path(__file__).parents[2] / "sql" / "functions"


class Ask(Protocol):
    def __call__(self, minutes: float, change: Change = ...) -> Findings: ...


@pytest.fixture
def ask(db: psycopg.Connection, store: Store, stand_in: TwilioStandIn) -> Iterator[Ask]:
    """Let time pass, and reconcile; `change` makes the list of another account of the stand-in's list."""
    record = partial(delivery.record, store, now=datetime.now(UTC))
    with listing.open_listing(Credentials(ACCOUNT_SID, AUTH_TOKEN), stand_in.url) as (sent_to, look_up):

        def ask(minutes: float, change: Change = lambda page: page) -> Findings:
            let_time_pass(db, minutes=minutes)
            stand_in.let_time_pass(minutes * 60)
            return reconcile.reconcile(store, changed(sent_to, change), look_up, record, five_minutes_left)

        yield ask


def changed(sent_to: SentTo, change: Change) -> SentTo:
    return lambda *asked: (page if isinstance(page, NoAnswer) else change(page) for page in sent_to(*asked))


def with_texts(rewrite: Callable[[str], str]) -> Change:
    """The list of an account that stores other texts than it was sent."""
    return lambda page: with_messages(page, (replace(each, body=rewrite(each.body)) for each in page.messages))


def with_messages(page: Page, messages: Iterable[Listed]) -> Page:
    return Page(tuple(messages), page.answered_at)


def empty(page: Page) -> Page:
    """The list of an account that masks numbers, by number; or a list that lags."""
    return Page((), page.answered_at)


def and_refused(body: str, code: int) -> Change:
    """The list has a refused POST too, a second and a half older than the oldest message."""

    def change(page: Page) -> Page:
        created = min((each.created for each in page.messages), default=datetime.now(UTC)) - timedelta(seconds=1.5)
        refused = Listed("SM" + "f" * 32, "failed", code, number(1), body, "outbound-api", created)
        return with_messages(page, (refused, *page.messages))

    return change


def send_unanswered(
    store: Store, stand_in: TwilioStandIn, send: Send, message: Message, accepted: Accept | None
) -> int:
    """A message with a POST that Twilio answered with 502; `accepted` tells if Twilio accepted it all the same."""
    stand_in.plan(message.to_number, BadAnswer(502, accepted=accepted))
    message_id = store.queue(message)
    assert worker.drain(store, send, five_minutes_left, concurrency=2).unknown == 1
    return message_id


def parcel(body: str = "Your parcel is here.", n: int = 1) -> Message:
    return Message(number(n), body, kind="otp")


def test_a_listed_message_settles_the_unknown_with_its_sid_and_status(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel(), Accept(receipts=()))

    assert ask(minutes=1).found == 1

    assert_state(db, message_id, message="sent", queue="completed", provider_sid=stand_in.accepted()[0].sid)
    assert ask(minutes=40) == Findings()
    assert len(stand_in.posts()) == 1


@contextmanager
def account(stand_in: TwilioStandIn) -> Iterator[Client]:
    """Another program that uses the same account."""
    with closing(Wire(stand_in.url)) as wire:
        yield Client(ACCOUNT_SID, AUTH_TOKEN, http_client=wire)


def send_outside(stand_in: TwilioStandIn, body: str) -> None:
    with account(stand_in) as client:
        client.messages.create(to=number(1), from_="+15005550006", body=body)


def test_another_text_to_the_same_person_does_not_settle_the_unknown(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel("One."), None)
    send_outside(stand_in, "Two.")

    found = ask(minutes=1)

    assert (found.asked, found.found) == (1, 0)
    assert_state(db, message_id, message="unknown")


def test_the_same_text_from_before_the_claim_does_not_settle_the_unknown(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    send_outside(stand_in, parcel().body)
    stand_in.let_time_pass(60)
    message_id = send_unanswered(store, stand_in, send, parcel(), None)

    assert ask(minutes=1).found == 0
    assert_state(db, message_id, message="unknown")


def test_the_message_of_another_attempt_does_not_settle_the_unknown(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    lost = send_unanswered(store, stand_in, send, parcel(), None)
    stand_in.plan(number(1), Accept(receipts=()))
    again = store.queue(parcel())
    worker.drain(store, send, five_minutes_left, concurrency=2)

    assert ask(minutes=1).found == 0
    assert_state(db, lost, message="unknown")
    assert_state(db, again, message="sent")


def test_a_list_that_lags_is_asked_again(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel(), Accept(receipts=(), list_lag=12 * 60))
    assert [ask(minutes=5).found for _ in range(3)] == [0, 0, 1]
    assert_state(db, message_id, message="sent")


def test_an_unknown_is_sent_again_after_half_an_hour_unless_on_unknown_is_hold(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    send_unanswered(store, stand_in, send, parcel(), None)
    send_unanswered(store, stand_in, send, replace(parcel(n=2), on_unknown="hold"), None)

    for _ in range(5):
        assert ask(minutes=5).released == 0
    assert ask(minutes=6).released == 1
    worker.drain(store, send, five_minutes_left, concurrency=2)

    assert statuses(db) == {"sent": 1, "unknown": 1}
    assert [post.to for post in stand_in.accepted()] == [number(1)]


def test_without_an_answer_from_twilio_no_unknown_is_sent_again(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    for n in range(9):
        send_unanswered(store, stand_in, send, parcel(n=n), None)
    stand_in.behave(down=True)

    assert ask(minutes=40) == Findings()
    assert statuses(db) == {"unknown": 9}

    stand_in.behave(down=False)
    assert ask(minutes=6).released == 9


def test_a_sent_message_without_a_receipt_is_looked_up_by_its_sid(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    take_in(store)
    worker.drain(store, send, five_minutes_left, concurrency=2)
    assert {answer for callback in stand_in.deliver_callbacks() for answer in callback.answers} == {"ct"}
    stand_in.behave(down=True)
    assert ask(minutes=61) == Findings()

    stand_in.behave(down=False)
    assert ask(minutes=6).silent == 1
    assert_state(db, message="delivered")


def test_a_message_deleted_at_twilio_stays_sent_and_is_not_looked_up_again(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    stand_in.plan(number(1), Accept(receipts=()))
    take_in(store)
    worker.drain(store, send, five_minutes_left, concurrency=2)
    with account(stand_in) as client:
        client.messages(stand_in.accepted()[0].sid).delete()

    assert (found := ask(minutes=61)).gone == found.silent == 1
    assert_state(db, message="sent")
    assert ask(minutes=24 * 60) == Findings()


@pytest.mark.parametrize(
    ("body", "rewrite"),
    [
        ("Your code is 1234\n", str.strip),
        ("Don’t wait — it’s here…", lambda body: body.replace("’", "'").replace("—", "-").replace("…", "...")),
        ("10:30\N{NO-BREAK SPACE}Uhr", lambda body: body.replace("\N{NO-BREAK SPACE}", " ")),
    ],
    ids=["trimmed", "Smart Encoding", "a no-break space"],
)
def test_a_text_that_twilio_rewrote_settles_its_unknown(
    db: psycopg.Connection,
    store: Store,
    stand_in: TwilioStandIn,
    send: Send,
    ask: Ask,
    body: str,
    rewrite: Callable[[str], str],
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel(body), Accept(receipts=()))
    assert ask(40, with_texts(rewrite)).found == 1
    assert_state(db, message_id, message="sent", provider_sid=stand_in.accepted()[0].sid)


@pytest.mark.parametrize("rewrite", [lambda _: "", TRIAL.__add__], ids=["redacted", "trial account"])
def test_an_unknown_is_parked_beside_a_message_that_may_be_it(
    db: psycopg.Connection,
    store: Store,
    stand_in: TwilioStandIn,
    send: Send,
    ask: Ask,
    rewrite: Callable[[str], str],
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel(), Accept(receipts=()))
    assert ask(25, with_texts(rewrite)).parked == 0
    assert store.parked() == []

    assert ask(10, with_texts(rewrite)).parked == 1
    assert_state(db, message_id, queue="unknown", reason="held")
    assert store.parked() == [message_id]
    assert [ask(60, with_texts(rewrite)).released for _ in range(80)] == [0] * 80
    assert ask(60) == Findings()


def test_a_parked_unknown_that_the_list_shows_later_is_found(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel(), Accept(receipts=()))
    assert ask(35, with_texts(TRIAL.__add__)).parked == 1
    assert ask(60).found == 1
    assert_state(db, message_id, message="sent", reason=None)


def test_the_message_of_another_unknown_is_not_a_stranger(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    lost = send_unanswered(store, stand_in, send, parcel("One."), None)
    found = send_unanswered(store, stand_in, send, parcel("Two."), Accept(receipts=()))

    assert (counts := ask(35)).found == counts.released == 1
    assert_state(db, lost, queue="pending")
    assert_state(db, found, message="sent")


def test_an_unknown_does_not_take_the_listed_message_of_an_equal_one_that_is_being_sent(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    lost = send_unanswered(store, stand_in, send, parcel("The same."), None)
    let_time_pass(db, minutes=5)
    stand_in.let_time_pass(300)
    claim = store.claim_now(store.queue(parcel("The same.")))
    assert claim
    answer = send(claim, timedelta(hours=1))
    assert isinstance(answer, Accepted)

    assert ask(1).found == 0
    store.finish([Report.accepted(claim.ticket, answer.sid)])
    assert ask(35).released == 1

    assert_state(db, lost, queue="pending")
    assert_state(db, claim.message_id, message="sent", provider_sid=answer.sid)


def test_of_two_equal_texts_the_accepted_one_is_found_beside_the_refused_one(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    text = parcel()
    stand_in.plan(number(1), Refuse(400, 21611), BadAnswer(502, accepted=Accept(receipts=())))
    first, second = store.queue(text), store.queue(text)
    worker.drain(store, send, five_minutes_left, concurrency=1)

    for _ in range(30):
        ask(5, and_refused(text.body, 21611))
        worker.drain(store, send, five_minutes_left, concurrency=1)

    assert len(stand_in.accepted()) == 2
    for message_id in (first, second):
        assert_state(db, message_id, message="sent")


PHOTO = "https://example.com/photo.jpg"
TEMPLATE = "HX" + "a" * 32


@pytest.mark.parametrize("body", ["Your parcel is here.", ""], ids=["with a text", "without a text"])
def test_a_listed_message_is_ours_only_with_as_many_media_files(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask, body: str
) -> None:
    two = replace(parcel(body), media_urls=(PHOTO, PHOTO))
    three = replace(two, media_urls=(PHOTO,) * 3)
    message_id = send_unanswered(store, stand_in, send, two, Accept(receipts=()))
    another = send_unanswered(store, stand_in, send, three, None)

    assert ask(minutes=1).found == 1

    assert_state(db, message_id, message="sent", provider_sid=stand_in.accepted()[0].sid)
    assert_state(db, another, message="unknown")


@pytest.mark.parametrize("is_accepted", [Accept(receipts=()), None], ids=["accepted", "not accepted"])
def test_a_content_message_without_a_known_text_is_parked_and_never_sent_again(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask, is_accepted: Accept | None
) -> None:
    content = replace(parcel(""), content_sid=TEMPLATE, content_variables='{"1": "Anna"}')
    message_id = send_unanswered(store, stand_in, send, content, is_accepted)

    assert ask(25).parked == 0
    assert ask(10).parked == 1
    assert_state(db, message_id, queue="unknown", reason="held")
    assert [ask(60).released for _ in range(80)] == [0] * 80


def test_a_content_message_is_found_by_the_text_that_the_application_gave(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    content = replace(parcel("The text of template aaaa."), content_sid=TEMPLATE)
    message_id = send_unanswered(store, stand_in, send, content, Accept(receipts=()))
    assert ask(minutes=1).found == 1
    assert_state(db, message_id, message="sent")


@pytest.mark.parametrize(
    ("parts", "is_control"),
    [({"media_urls": (PHOTO,)}, True), ({"content_sid": TEMPLATE}, False)],
    ids=["media", "a content template"],
)
def test_a_message_with_media_is_a_control_and_one_of_a_template_is_none(
    store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask, parts: dict[str, Any], is_control: bool
) -> None:
    send_unanswered(store, stand_in, send, parcel(), None)
    stand_in.plan(number(2), Accept(receipts=()))
    store.queue(replace(parcel("", n=2), **parts))
    worker.drain(store, send, five_minutes_left, concurrency=1)

    counts = ask(35)

    assert (counts.distrusted, counts.released) == (0, 1)
    assert (store.list_control() is not None) == is_control


def test_a_refused_post_alone_is_ours_after_half_an_hour(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel(), None)
    refused = and_refused(parcel().body, 30007)

    assert ask(25, refused).found == 0
    assert ask(10, refused).found == 1
    assert_state(db, message_id, message="failed", error_code=30007)


def accept(store: Store, stand_in: TwilioStandIn, send: Send, n: int) -> int:
    """A message that Twilio accepted, and that the list must have."""
    stand_in.plan(number(n), Accept(receipts=()))
    message_id = take_in(store, n)
    assert worker.drain(store, send, five_minutes_left, concurrency=1).success == 1
    return message_id


@pytest.mark.parametrize(
    "change", [empty, with_texts(lambda _: "")], ids=["masked numbers, or a list that lags", "redacted texts"]
)
def test_nothing_is_released_while_the_list_lacks_a_message_that_twilio_accepted(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask, change: Change
) -> None:
    lost = send_unanswered(store, stand_in, send, parcel(), None)
    taken = send_unanswered(store, stand_in, send, parcel(n=2), Accept(receipts=()))
    accept(store, stand_in, send, 3)

    assert (counts := ask(35, change)).distrusted == 1
    assert counts.released == counts.parked == counts.found == 0
    assert statuses(db) == {"unknown": 2, "sent": 1}

    assert (counts := ask(6)).distrusted == 0
    assert (counts.released, counts.found) == (1, 1)
    assert_state(db, lost, queue="pending")
    assert_state(db, taken, message="sent")


def test_a_control_from_before_the_claim_does_not_show_that_the_list_lags_less_than_two_hours(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    stand_in.behave(list_lag=90 * 60)
    accept(store, stand_in, send, 1)
    ask(120)
    message_id = send_unanswered(store, stand_in, send, parcel(n=2), Accept(receipts=()))

    assert (counts := ask(35)).distrusted == 0
    assert counts.released == counts.found == 0
    assert ask(60).found == 1
    assert_state(db, message_id, message="sent")


def test_an_unknown_is_sent_again_by_a_control_from_before_its_claim_after_two_hours(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    accept(store, stand_in, send, 1)
    ask(120)
    message_id = send_unanswered(store, stand_in, send, parcel(n=2), None)

    assert [ask(55).released, ask(55).released, ask(15).released] == [0, 0, 1]
    assert_state(db, message_id, queue="pending")


def test_the_control_is_asked_about_before_the_unknown(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    """The list catches up between the first question and the second."""
    send_unanswered(store, stand_in, send, parcel(), Accept(receipts=()))
    accept(store, stand_in, send, 2)
    pages = iter([empty])

    counts = ask(35, lambda page: next(pages, lambda page: page)(page))

    assert (counts.distrusted, counts.released, counts.found) == (1, 0, 1)


def test_a_refused_post_alone_is_not_ours_by_a_list_that_is_not_trusted(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    """The accepted message may come later in a list that lags."""
    message_id = send_unanswered(store, stand_in, send, parcel(), Accept(receipts=()))
    accept(store, stand_in, send, 2)
    counts = ask(35, lambda page: and_refused(parcel().body, 30007)(empty(page)))
    assert (counts.found, counts.distrusted) == (0, 1)
    assert_state(db, message_id, message="unknown")


def test_the_control_is_the_newest_answer_to_a_post_of_four_days_with_its_text(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    def control() -> str | None:
        found = store.list_control()
        return found and found.to_number

    older, newest = accept(store, stand_in, send, 1), accept(store, stand_in, send, 2)
    # The list knew this one, so it proves nothing of the list.
    accepted(store, 3)
    assert control() is None

    let_time_pass(db, minutes=2)
    assert control() == number(2)
    # `older` becomes the newest with a text.
    db.execute("update sms_retry.sms_messages set body = null where id = %s", [newest])
    assert control() == number(1)
    let_time_pass(db, hours=95)
    assert control() == number(1)
    let_time_pass(db, hours=1)
    assert control() is None
    assert_state(db, older, message="sent")


def test_the_control_is_found_by_indexes(db: psycopg.Connection, store: Store) -> None:
    fill(db, 2000)
    for _ in range(4):
        store.finish([Report.accepted(claim.ticket, sid(claim.id), 201) for claim in store.claim_due(500)])
    let_time_pass(db, minutes=2)

    found = [
        *nodes(plan(db, "sms_list_control(text)", lambda source: source.replace("sms_list_control.account", "null")))
    ]

    assert not [node for node in found if node["Node Type"] == "Seq Scan" and node.get("Relation Name")]
    assert "sms_retry_queue_ended" in {node.get("Index Name") for node in found}
    assert max(node["Actual Rows"] for node in found) <= 1000


def test_a_list_that_was_not_read_to_its_end_releases_nothing(
    db: psycopg.Connection,
    store: Store,
    stand_in: TwilioStandIn,
    send: Send,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel(), None)
    monkeypatch.setattr(matching, "MOST_PAGES", 1)

    for _ in range(71):
        assert ask(60).released == 0
    assert_state(db, message_id, queue="unknown", reason=None)
    # After three days a person decides.
    for _ in range(12):
        ask(60)
    assert_state(db, message_id, queue="unknown", reason="held")
    assert store.parked() == [message_id]


def test_a_clock_of_the_database_ahead_of_twilios_does_not_hide_a_message(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    def half_a_minute_behind(page: Page) -> Page:
        late = timedelta(seconds=30)
        assert page.answered_at
        assert abs(page.answered_at - datetime.now(UTC)) < timedelta(seconds=10)
        return Page(
            tuple(replace(each, created=each.created - late) for each in page.messages), page.answered_at - late
        )

    message_id = send_unanswered(store, stand_in, send, parcel(), Accept(receipts=()))
    assert ask(35, half_a_minute_behind).found == 1
    assert_state(db, message_id, message="sent")


@pytest.fixture
def functions_of_release_0_1(db: psycopg.Connection) -> Iterator[None]:
    """After a rollback the migrator of release 0.1 has removed the functions that only this release has."""
    new = ("unknown_sms_to_ask", "decide_unknown_sms", "sms_list_control", "record_sms_receipt")
    files = [next(FUNCTIONS.rglob(f"{name}.sql")).read_text() for name in new]
    for name in new:
        db.execute(f"drop function sms_retry.{name}")
    yield
    for text in files:
        db.execute(text)


@pytest.mark.usefixtures("functions_of_release_0_1")
def test_with_the_functions_of_release_0_1_unknowns_are_found_and_none_is_released(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    lost = send_unanswered(store, stand_in, send, parcel(), None)
    found = send_unanswered(store, stand_in, send, parcel(n=2), Accept(receipts=()))

    assert (counts := ask(35)).found == 1
    assert counts.released == counts.parked == 0
    assert_state(db, lost, message="unknown")
    assert_state(db, found, message="sent")

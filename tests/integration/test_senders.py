"""Senders: each has its lanes, its pace and its holds; otp goes before transactional, and that before marketing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry import health
from sms_retry.store import Store
from sms_retry.values import Claim, Hold, Message, Report
from tests.integration.examples import accepted, assert_state, finish, in_parallel, number, one, receipt, sid

A, B = "+15005550001", "+15005550002"
HOUR = timedelta(hours=1)
# due_sms_lanes, in a database in which every sender has enough segments.
LANES_BEFORE = """create or replace function sms_retry.due_sms_lanes(lows bigint[], highs bigint[], limit_count int,
    since timestamptz, before timestamptz, numbers int, concerned text, start bigint = null)
    returns int[] language sql"""
LANES = """select array_agg(distinct q.lane) from sms_retry.sms_retry_queue q
    where q.lane between lows[1] and highs[cardinality(highs)]"""


def set_sender(db: psycopg.Connection, sender: str = A, **given: object) -> None:
    places = "".join(f", {name} => %s" for name in given)
    db.execute(f"select sms_retry.set_sms_sender(%s{places})", [sender, *given.values()])


def queue(store: Store, count: int, first: int = 1, **fields: str) -> list[int]:
    given = {"kind": "transactional", "sender": A, **fields}
    return [store.queue(Message(number(n), "Hello.", **given)) for n in range(first, first + count)]


def let_go(store: Store, limit: int = 50) -> list[int]:
    return [claim.message_id for claim in store.claim_due(limit)]


def opt_in(store: Store, *people: int) -> None:
    for n in people:
        store.set_consent("*", number(n), "opted_in")


def test_a_sender_sends_at_most_its_pace_whichever_worker_claims(
    db: psycopg.Connection, open_store: Callable[[], Store]
) -> None:
    stores = [open_store() for _ in range(4)]
    set_sender(db, segments_per_second=3)
    queue(stores[0], 40)
    db.execute("update sms_retry.sms_senders set filled_at = now() - interval '1 hour'")

    assert sum(map(len, in_parallel(4, lambda n: let_go(stores[n])))) == 3
    for _ in range(5):
        let_time_pass(db, seconds=1)
        assert 2 <= sum(map(len, in_parallel(4, lambda n: let_go(stores[n])))) <= 4


def test_a_quiet_sender_saves_the_segments_of_one_second(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=5)
    queue(store, 20)
    let_time_pass(db, minutes=10)
    assert len(let_go(store)) == 5
    assert let_go(store) == []


def test_senders_without_a_segment_left_are_counted(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=1)
    set_sender(db, B)
    let_time_pass(db, minutes=1)
    assert health.gauges(health.check(store))["SendersAtPace"] == 0
    queue(store, 1)
    let_go(store)
    assert health.gauges(health.check(store))["SendersAtPace"] == 1


def test_a_text_of_three_segments_takes_three_tokens(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=4)
    for n in range(1, 4):
        store.queue(Message(number(n), "é" * 400, sender=A))
    let_time_pass(db, minutes=1)
    assert len(let_go(store)) == 1
    let_time_pass(db, seconds=1)
    assert len(let_go(store)) == 1


def test_a_message_larger_than_the_bucket_goes_when_the_bucket_is_full(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=1)
    for n in (1, 2):
        store.queue(Message(number(n), "é" * 400, sender=A))
    let_time_pass(db, minutes=1)
    assert len(let_go(store)) == 1
    let_time_pass(db, seconds=1.9)
    assert let_go(store) == []
    let_time_pass(db, seconds=2)
    assert len(let_go(store)) == 1


def test_a_sender_without_tokens_does_not_stop_other_senders(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=1)
    queue(store, 200)
    others = set(queue(store, 30, first=300, sender=B))
    let_time_pass(db, minutes=1)
    taken = set(let_go(store))
    assert others < taken
    assert len(taken) == 31


def test_paced_senders_take_half_of_the_places_while_others_want_the_rest(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=1000)
    paced = set(queue(store, 40))
    queue(store, 40, first=100, sender=B)
    let_time_pass(db, minutes=1)
    assert len(paced & set(let_go(store, 20))) == 10
    assert len(let_go(store, 60)) == 60


@pytest.mark.parametrize("pace", [None, 100])
def test_ranks_are_claimed_in_their_order(db: psycopg.Connection, store: Store, pace: int | None) -> None:
    set_sender(db, segments_per_second=pace)
    opt_in(store, *range(1, 7))
    let_time_pass(db, seconds=5)
    kinds = ["marketing", "transactional", "otp", "emergency", "transactional", "marketing"]
    for n, kind in enumerate(kinds, start=1):
        queue(store, 1, first=n, kind=kind)
    claims = store.claim_due(6)
    assert [claim.kind for claim in claims if claim.kind not in ("otp", "emergency")] == [
        "transactional",
        "transactional",
        "marketing",
        "marketing",
    ]
    assert {claim.kind for claim in claims[:2]} == {"otp", "emergency"}


def test_an_otp_goes_before_the_campaign_of_the_same_paced_sender(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=1)
    opt_in(store, *range(1, 51))
    queue(store, 50, kind="marketing")
    let_time_pass(db, minutes=1)
    assert len(let_go(store)) == 1
    [otp] = queue(store, 1, first=99, kind="otp")
    let_time_pass(db, seconds=1)
    assert let_go(store) == [otp]


def test_late_messages_of_each_lower_rank_get_a_tenth_of_the_places(db: psycopg.Connection, store: Store) -> None:
    opt_in(store, *range(1, 51))
    queue(store, 50, kind="marketing")
    queue(store, 50, kind="transactional")
    let_time_pass(db, minutes=9)
    queue(store, 200, kind="otp")
    assert Counter(claim.kind for claim in store.claim_due(20)) == {"otp": 20}
    let_time_pass(db, minutes=2)
    kinds = Counter(claim.kind for claim in store.claim_due(20))
    assert (kinds["marketing"] in (2, 3), kinds["transactional"] in (2, 3), kinds.total()) == (True, True, 20)


def test_businesses_share_the_pace_of_their_sender(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=10)
    queue(store, 100, business_id="large")
    small = set(queue(store, 5, first=200, business_id="small"))
    let_time_pass(db, minutes=1)
    taken = set(let_go(store))
    assert len(taken) == 10
    assert small <= taken


def test_each_lane_gives_an_equal_share_and_a_short_lane_leaves_its_rest(db: psycopg.Connection, store: Store) -> None:
    for n, (business, size) in enumerate({"a": 50, "b": 50, "c": 2}.items()):
        queue(store, size, first=100 * n + 1, business_id=business)
    shares = Counter(claim.business_id for claim in store.claim_due(30))
    assert shares["c"] == 2
    assert shares.total() == 30
    assert abs(shares["a"] - shares["b"]) <= 8


def test_a_claim_locks_few_rows_more_than_it_takes(db: psycopg.Connection, store: Store, database_url: str) -> None:
    for n in range(10):
        set_sender(db, f"+1500555{n:04}", segments_per_second=1000)
        queue(store, 20, first=1 + 20 * n, sender=f"+1500555{n:04}")
    let_time_pass(db, minutes=1)
    with psycopg.connect(database_url) as worker:
        assert len(worker.execute("select from sms_retry.claim_sms(20)").fetchall()) == 20
        free = db.execute("select id from sms_retry.sms_retry_queue for update skip locked").fetchall()
    assert len(free) >= 160


@pytest.mark.parametrize(("waiting", "senders"), [(5, 4), (1, 20)])
def test_a_claim_visits_few_senders_unless_each_has_little(
    db: psycopg.Connection, store: Store, waiting: int, senders: int
) -> None:
    for n in range(20):
        set_sender(db, f"+1500555{n:04}", segments_per_second=1000)
        queue(store, waiting, first=1 + waiting * n, sender=f"+1500555{n:04}")
    let_time_pass(db, minutes=1)
    visited = Counter(claim.sender for claim in store.claim_due(20))
    assert (visited.total(), len(visited)) == (20, senders)


@pytest.mark.parametrize(("senders", "pace"), [([None], None), ([None], 1_000), (200, None), (200, 1_000), (20, 1_000)])
def test_each_claim_begins_at_another_business(
    db: psycopg.Connection, store: Store, senders: list[None] | int, pace: int | None
) -> None:
    names = [f"+1500555{n:04}" for n in range(senders)] if isinstance(senders, int) else senders
    for name in names if pace else []:
        set_sender(db, name or "*", segments_per_second=pace)
    texts = [
        {
            "to": number(n),
            "body": "Hello.",
            "kind": "otp",
            "business_id": f"b{n % 200}",
            "sender": names[n % len(names)],
        }
        for n in range(4_000)
    ]
    db.execute("select count(*) from sms_retry.queue_sms_retries(%s)", [json.dumps(texts)])
    let_time_pass(db, minutes=1)

    claimed = {claim.message_id for _ in range(20) for claim in store.claim_due(20)}

    sql = "select count(distinct business_id) from sms_retry.sms_messages where id = any (%s)"
    # A claim takes one message of each lane without a pace, and about five of each with one: 400 and 80 visits.
    assert one(db, sql, [sorted(claimed)]) > (40 if pace else 100)


@pytest.mark.parametrize("outcome", ["deferred", "expired", "opted_out", "not_sent"])
def test_what_is_not_sent_gives_its_segments_back(db: psycopg.Connection, store: Store, outcome: str) -> None:
    set_sender(db, segments_per_second=2)
    queue(store, 10)
    let_time_pass(db, minutes=1)
    claims = store.claim_due(10)
    assert len(claims) == 2
    waits = (HOUR,) if outcome == "deferred" else ()
    store.finish([Report(claim.ticket, outcome, delays=waits) for claim in claims])
    assert len(store.claim_due(10)) == 2
    # A stale report gives nothing back.
    store.finish([Report(claim.ticket, outcome, delays=waits) for claim in claims])
    assert store.claim_due(10) == []


def test_an_accepted_message_keeps_its_segments(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=1)
    queue(store, 3)
    let_time_pass(db, minutes=1)
    [claim] = store.claim_due(10)
    finish(store, claim, "accepted", sid=sid())
    assert store.claim_due(10) == []


@pytest.mark.parametrize(("kind", "sent"), [("otp", 11), ("emergency", 11), ("transactional", 1)])
def test_an_otp_that_is_sent_at_once_may_borrow_ten_seconds(
    db: psycopg.Connection, store: Store, kind: str, sent: int
) -> None:
    set_sender(db, segments_per_second=1)
    db.execute("update sms_retry.sms_senders set tokens = 1")
    claims = []
    for n in range(1, 20):
        # The time that the test takes gives no tokens.
        db.execute("update sms_retry.sms_senders set filled_at = now()")
        claims.append(store.queue_and_claim(Message(number(n), "Hello.", kind=kind, sender=A))[1])
    assert sum(claim is not None for claim in claims) == sent
    assert store.claim_due(50) == []
    let_time_pass(db, seconds=sent - 0.1)
    assert len(store.claim_due(50)) == 1


def test_a_sender_whose_segments_others_draw_during_a_claim_gives_nothing(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, segments_per_second=1)
    queue(store, 3)
    others = set(queue(store, 2, first=50, sender=B))
    db.execute("update sms_retry.sms_senders set tokens = -20")
    with db.transaction(force_rollback=True):
        # The claim looks for lanes before the others borrow the segments.
        db.execute(f"{LANES_BEFORE} as $$ {LANES} $$")
        found = db.execute("select message_id from sms_retry.claim_sms(10)").fetchall()
    assert {message_id for (message_id,) in found} == others


def test_waiting_messages_move_when_a_pace_begins_and_ends(db: psycopg.Connection, store: Store) -> None:
    queue(store, 20)
    set_sender(db, segments_per_second=1)
    let_time_pass(db, minutes=1)
    assert len(store.claim_due(10)) == 1
    set_sender(db)
    assert len(store.claim_due(50)) == 19


def test_the_pace_of_the_deployment_concerns_messages_without_a_sender(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, "*", segments_per_second=2)
    for n in range(1, 10):
        store.queue(Message(number(n), "Hello."))
    let_time_pass(db, minutes=1)
    assert len(store.claim_due(50)) == 2


def test_release_0_1_claims_no_message_that_it_cannot_send(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, B, account="shop")
    queue(store, 3)
    queue(store, 3, sender=B)
    store.queue(Message(number(50), "", media_urls=("https://example.com/a.png",)))
    plain = store.queue(Message(number(51), "Hello."))
    for call in ("claim_due_sms_retries(50)", *(f"claim_sms_now({n})" for n in range(1, 8))):
        found = db.execute(f"select message_id from sms_retry.{call}").fetchall()
        assert found == ([(plain,)] if call.startswith("claim_due") else [])
    assert len(let_go(store)) == 7


def test_a_business_has_its_sender_and_a_message_keeps_it(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, A, business_id="acme")
    store.queue(Message(number(1), "Hello.", business_id="acme"))
    set_sender(db, A)
    set_sender(db, B, business_id="acme")
    store.queue(Message(number(2), "Hello.", business_id="acme"))
    store.queue(Message(number(3), "Hello.", business_id="acme", sender="*"))
    store.queue(Message(number(4), "Hello."))
    assert [claim.sender for claim in sorted(store.claim_due(9))] == [A, B, None, None]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"sender": "+49 176"}, "sender must be"),
        ({"sender": "1234567890"}, "sender must be"),
        ({"sender": A, "segments_per_second": 0}, "segments_per_second must be a number above 0"),
        ({"sender": A, "account": "*"}, "account must be a name"),
        ({"sender": B, "business_id": "acme"}, "business_id has another sender already"),
    ],
)
def test_a_wrong_sender_is_refused_in_a_sentence(db: psycopg.Connection, given: dict[str, object], fault: str) -> None:
    set_sender(db, A, business_id="acme")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"nothing was stored: .*{fault}"):
        set_sender(db, **given)


@pytest.mark.parametrize("again", ["requeued", "retried by hand", "reported by a receipt"])
def test_a_message_that_ended_has_the_pace_that_its_sender_has_since(
    db: psycopg.Connection, store: Store, again: str
) -> None:
    for n in range(1, 6):
        claim = store.claim_now(*queue(store, 1, n))
        assert claim
        if again == "reported by a receipt":
            finish(store, claim, "accepted", sid=sid(n))
        else:
            finish(store, claim, "refused", code=30001)
    set_sender(db, segments_per_second=1)

    for n in range(1, 6):
        match again:
            case "requeued":
                db.execute("select sms_retry.requeue_failed_sms(30001, now() - interval '1 hour')")
            case "retried by hand":
                db.execute("select sms_retry.retry_sms_now(%s)", [n])
            case _:
                receipt(store, sid(n), "undelivered", 30003, delays=(timedelta(0),))

    assert one(db, "select count(*) from sms_retry.sms_retry_queue where status = 'pending'") == 5
    let_time_pass(db, seconds=1)
    assert 1 <= len(let_go(store)) <= 2


def test_no_worker_waits_while_the_messages_of_a_sender_move(
    db: psycopg.Connection, database_url: str, store: Store
) -> None:
    claims = [store.claim_now(message_id) for message_id in queue(store, 2, sender=B)]
    set_sender(db, B, segments_per_second=5)
    accepted(store, 9)
    with psycopg.connect(database_url) as operator:
        operator.execute("select sms_retry.set_sms_sender(%s, segments_per_second => 1)", [A])
        assert store._once("select set_config('lock_timeout', '1s', false)", [])
        for claim, outcome in zip(claims, ("refused", "deferred"), strict=True):
            assert claim
            finish(store, claim, outcome, delays=(HOUR,))
        assert receipt(store, sid(9), "undelivered", 30003) == "settled"


def test_more_than_4095_paced_senders_are_refused(db: psycopg.Connection) -> None:
    db.execute(
        "insert into sms_retry.sms_senders (sender, segments_per_second, number)"
        " select 'S' || n, 1, n from generate_series(1, 4095) n"
    )
    with pytest.raises(psycopg.Error, match="at most 4,095 senders"):
        set_sender(db, segments_per_second=1)
    set_sender(db, "S7")
    set_sender(db, segments_per_second=1)
    assert one(db, "select number from sms_retry.sms_senders where sender = %s", [A]) == 7


@pytest.mark.parametrize(
    ("scope", "key", "held"),
    [
        ("sender", A, {"a"}),
        ("sender", "*", {"plain"}),
        ("business", "b", {"b"}),
        ("batch", "spring", {"batch"}),
        ("account", "shop", {"sub"}),
    ],
)
def test_a_hold_defers_the_messages_of_its_scope_only(
    db: psycopg.Connection, store: Store, scope: str, key: str, held: set[str]
) -> None:
    set_sender(db, B, account="shop")
    _one_of_each(store)
    store.set_hold(Hold(scope, key, HOUR, "by_hand"))
    claims = store.claim_due(50)
    assert {_name(claim) for claim in claims} == {"a", "b", "batch", "plain", "sub"}
    assert {_name(claim) for claim in claims if claim.held_until} == held


def test_the_first_message_in_the_scope_of_a_hold_on_a_sender_is_its_probe(
    db: psycopg.Connection, store: Store
) -> None:
    set_sender(db, A)
    queue(store, 3, sender=B)
    queue(store, 3, first=10)
    store.set_hold(Hold("sender", A, HOUR, "error_21606"))
    let_time_pass(db, hours=1)
    claims = store.claim_due(50)
    assert Counter((claim.sender, claim.held_until is None) for claim in claims) == {
        (B, True): 3,
        (A, True): 1,
        (A, False): 2,
    }


def test_a_hold_on_the_main_account_lets_subaccounts_go_on(db: psycopg.Connection, store: Store) -> None:
    set_sender(db, B, account="shop")
    _one_of_each(store)
    store.set_hold(Hold("account", "*", HOUR, "error_20003"))
    assert [_name(claim) for claim in store.claim_due(50)] == ["sub"]
    assert store.claim_now(1) is None
    _, claim = store.queue_and_claim(Message(number(77), "Hello.", sender=B))
    assert claim
    assert claim.account == "shop"

    let_time_pass(db, hours=1)
    queue(store, 3, first=90, sender=B)
    claims = store.claim_due(50)
    assert Counter(claim.account for claim in claims) == {"shop": 3, None: 1}
    finish(store, next(claim for claim in claims if claim.account is None), "accepted", sid=sid())
    assert len(store.claim_due(50)) == 3


def test_a_waiting_retry_is_as_fast_as_its_sender(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store, sender=A)
    set_sender(db, segments_per_second=1)
    finish(store, claim, "undelivered", sid=sid(), delays=(timedelta(0),) * 3)
    queue(store, 2, first=5)
    let_time_pass(db, minutes=1)
    assert_state(db, queue="pending")
    assert len(store.claim_due(9)) == 1


def test_a_stop_to_the_sender_of_a_business_leaves_the_messages_of_another(
    db: psycopg.Connection, store: Store
) -> None:
    set_sender(db, A, business_id="a")
    theirs, others = _of_two_businesses(store)

    store.take_reply("SM1", number(), "stop", (A,))
    assert_state(db, theirs, message="failed", reason="opted_out")
    assert [claim.message_id for claim in store.claim_due(9)] == [others]
    assert one(db, "select business_id from sms_retry.sms_recipients") == "a"

    store.take_reply("SM2", number(), "start", (A,))
    assert one(db, "select consent from sms_retry.sms_recipients") == "unknown"


@pytest.mark.parametrize("senders", [(), (B,), ("MG" + "0" * 32, "+15005550007")])
def test_a_stop_to_the_sender_of_all_concerns_all(db: psycopg.Connection, store: Store, senders: tuple[str]) -> None:
    set_sender(db, A, business_id="a")
    set_sender(db, B)
    for message_id in _of_two_businesses(store, then=lambda: store.take_reply("SM1", number(), "stop", senders)):
        assert_state(db, message_id, message="failed", reason="opted_out")


def test_a_stop_to_a_number_of_a_messaging_service_concerns_the_business_of_the_service(
    db: psycopg.Connection, store: Store
) -> None:
    service = "MG" + "0" * 32
    set_sender(db, service, business_id="a")
    theirs, others = _of_two_businesses(store)
    store.take_reply("SM1", number(), "stop", (service, "+15005550007"))
    assert_state(db, theirs, message="failed")
    assert_state(db, others, message="queued")


def test_a_stop_to_a_number_and_a_service_of_two_businesses_concerns_both(db: psycopg.Connection, store: Store) -> None:
    service = "MG" + "0" * 32
    set_sender(db, service, business_id="a")
    set_sender(db, A, business_id="b")
    for wish, status in (("stop", "opted_out"), ("start", "unknown")):
        store.take_reply(f"SM{wish}", number(), wish, (service, A))
        consents = db.execute("select business_id, consent from sms_retry.sms_recipients order by 1").fetchall()
        assert consents == [("a", status), ("b", status)]


@pytest.mark.parametrize("business_id", ["a", None])
def test_a_refusal_by_the_person_concerns_the_business_of_the_sender(
    db: psycopg.Connection, store: Store, business_id: str | None
) -> None:
    set_sender(db, A, business_id=business_id)
    [message_id] = queue(store, 1, business_id="a")
    claim = store.claim_now(message_id)
    assert claim
    finish(store, claim, "refused", code=21610, reason="opted_out")
    assert one(db, "select business_id from sms_retry.sms_recipients") == (business_id or "*")


def test_a_refusal_from_the_sender_of_the_deployment_concerns_every_business(
    db: psycopg.Connection, store: Store
) -> None:
    set_sender(db, "*", business_id="a")
    [message_id] = queue(store, 1, business_id="b", sender="*")
    claim = store.claim_now(message_id)
    assert claim
    finish(store, claim, "refused", code=21610, reason="opted_out")
    assert one(db, "select business_id from sms_retry.sms_recipients") == "*"


def test_a_stop_to_the_sender_of_a_business_concerns_others_that_named_it_for_the_person(
    db: psycopg.Connection, store: Store
) -> None:
    set_sender(db, A, business_id="a")
    [theirs] = queue(store, 1, business_id="b", sender=A)
    [others] = queue(store, 1, business_id="c", sender="*")
    consents = "select array_agg((business_id, consent)::text order by business_id) from sms_retry.sms_recipients"
    store.take_reply("SM1", number(1), "stop", (A,))
    assert_state(db, theirs, message="failed", reason="opted_out")
    assert_state(db, others, message="queued")
    store.take_reply("SM2", number(1), "start", (A,))
    assert one(db, consents) == ["(a,unknown)", "(b,unknown)"]


def _of_two_businesses(store: Store, then: Callable[[], object] = lambda: None) -> tuple[int, int]:
    """A message to one person from each of the businesses a and b."""
    first, second = (store.queue(Message(number(), "Hello.", business_id=business)) for business in ("a", "b"))
    then()
    return first, second


def _one_of_each(store: Store) -> None:
    queue(store, 1)
    queue(store, 1, 2, business_id="b", sender="+15005550009")
    queue(store, 1, 3, batch="spring", sender="+15005550009")
    store.queue(Message(number(4), "Hello."))
    queue(store, 1, 5, sender=B)


def _name(claim: Claim) -> str:
    return {number(1): "a", number(2): "b", number(3): "batch", number(4): "plain"}.get(claim.to_number, "sub")

"""Messages with media or a content template: both entries, the POST, and the erasing of their parts."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from local.twilio.stand_in import Accept, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import intake, worker
from sms_retry.store import Store
from sms_retry.twilio import Send
from tests.integration.examples import assert_state, finish, five_minutes_left, number, one

PHOTOS = ["https://example.com/1.jpg", "https://example.com/2.jpg?size=2&name=a%20b"]
TEMPLATE = "HX" + "a" * 32
MEDIA = {"media_urls": PHOTOS}
CONTENT = {"content_sid": TEMPLATE, "content_variables": {"1": "Anna"}}

each_entry = pytest.mark.parametrize("entry", ["send_sms", "queue_sms_retry", "log_sent_sms"])


def take_in(db: psycopg.Connection, store: Store, entry: str, parts: dict[str, Any]) -> int:
    if entry == "send_sms":
        message, _ = intake.read({"to": number(), "kind": "otp", **parts})
        return store.queue(message)
    given = {"to_number": number(), "body": "", "kind": "otp", **parts}
    if isinstance(given.get("content_variables"), dict):
        given["content_variables"] = Jsonb(given["content_variables"])
    if entry == "log_sent_sms":
        given["provider_sid"] = None
    arguments = ", ".join(f"{name} => %s" for name in given)
    return int(one(db, f"select sms_retry.{entry}({arguments})", list(given.values())))


def take_in_keyed(store: Store, event: dict[str, Any]) -> int:
    message, _ = intake.read(event)
    return store.queue(message)


def stored(db: psycopg.Connection) -> Any:
    statement = "select body, media_urls, content_sid, content_variables from sms_retry.sms_messages"
    return db.execute(statement).fetchone()


@pytest.mark.parametrize(
    "other",
    [{"media_urls": PHOTOS[:1]}, {"content_sid": "HX" + "b" * 32}, {"body": "A text instead."}],
    ids=["media", "template", "text"],
)
@pytest.mark.parametrize("parts", [MEDIA, CONTENT], ids=["media", "a content template"])
def test_a_key_with_other_media_or_another_template_is_refused(
    db: psycopg.Connection, store: Store, parts: dict[str, Any], other: dict[str, Any]
) -> None:
    key = {"to": number(), "kind": "otp", "message_key": "order-1"}
    first = take_in_keyed(store, key | parts)
    assert take_in_keyed(store, key | parts) == first
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="message_key belongs to a message with another"):
        take_in_keyed(store, key | other)
    stored, refused = store.queue_many(json.dumps([key | parts, key | other]), None)
    assert (stored.message_id, stored.fault) == (first, None)
    assert refused.fault
    assert "media or content template" in refused.fault

    finish(store, store.claim_due(1)[0], "refused", code=21211)
    let_time_pass(db, days=2)
    assert store.erase_bodies(1) == 1
    assert take_in_keyed(store, key | parts) == first


def test_two_messages_of_one_array_with_one_key_must_have_the_same_media(store: Store) -> None:
    key = {"to": number(), "kind": "otp", "message_key": "order-1"}
    same, other = key | MEDIA, key | {"media_urls": PHOTOS[:1]}
    first, second, third = store.queue_many(json.dumps([same, same, other]), None)
    assert first.message_id == second.message_id
    assert third.message_id is None
    assert third.fault
    assert "media or content template" in third.fault


@each_entry
@pytest.mark.parametrize(
    ("parts", "kept"),
    [(MEDIA, ("", PHOTOS, None, None)), (CONTENT, ("", None, TEMPLATE, {"1": "Anna"}))],
    ids=["media", "a content template"],
)
def test_each_entry_stores_media_and_content_templates(
    db: psycopg.Connection, store: Store, entry: str, parts: dict[str, Any], kept: tuple[Any, ...]
) -> None:
    take_in(db, store, entry, parts)
    assert stored(db) == kept


@each_entry
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"media_urls": []},
        {"media_urls": PHOTOS * 6},
        {"media_urls": ["http://example.com/1.jpg"]},
        {"content_sid": "HX1"},
        {"content_variables": {"1": "Anna"}, "media_urls": PHOTOS},
        {"content_sid": TEMPLATE, "content_variables": ["Anna"]},
    ],
    ids=str,
)
def test_each_entry_refuses_invalid_parts(
    db: psycopg.Connection, store: Store, entry: str, parts: dict[str, Any]
) -> None:
    if isinstance(parts.get("content_variables"), list):
        parts = {**parts, "content_variables": Jsonb(["Anna"]) if entry != "send_sms" else ["Anna"]}
    with pytest.raises((intake.InvalidEvent, psycopg.errors.InvalidParameterValue), match="nothing was stored"):
        take_in(db, store, entry, parts)
    assert one(db, "select count(*) from sms_retry.sms_messages") == 0


@pytest.mark.parametrize(
    ("parts", "form"),
    [
        ({**MEDIA, "body": "Look."}, {"Body": "Look.", "MediaUrl": "\n".join(PHOTOS)}),
        (MEDIA, {"MediaUrl": "\n".join(PHOTOS)}),
        (CONTENT, {"ContentSid": TEMPLATE, "ContentVariables": '{"1": "Anna"}'}),
    ],
    ids=["media beside a text", "media alone", "a content template"],
)
def test_the_post_has_the_parts_of_the_message(
    db: psycopg.Connection,
    store: Store,
    stand_in: TwilioStandIn,
    send: Send,
    parts: dict[str, Any],
    form: dict[str, str],
) -> None:
    take_in(db, store, "queue_sms_retry", parts)

    assert worker.drain(store, send, five_minutes_left, concurrency=1).success == 1

    (post,) = stand_in.accepted()
    parts_of_post = ("Body", "MediaUrl", "ContentSid", "ContentVariables")
    assert {name: value for name, value in post.form.items() if name in parts_of_post} == form


def test_media_and_variables_are_erased_with_the_text(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    stand_in.plan(number(), Accept(), Accept())
    for parts in (MEDIA, CONTENT):
        assert_state(db, take_in(db, store, "queue_sms_retry", parts), message="queued")
    worker.drain(store, send, five_minutes_left, concurrency=1)
    let_time_pass(db, days=1, seconds=1)

    assert store.erase_bodies(1) == 2

    left = db.execute("select body, media_urls, content_variables from sms_retry.sms_messages").fetchall()
    assert left == [(None, None, None)] * 2

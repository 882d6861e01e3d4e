"""The console's page of a batch: its counts, its messages, its hold, and calling it off."""

from __future__ import annotations

import re

import pytest

from local.stack import Stack
from tests.e2e.messages import message, number, statuses
from tests.e2e.test_console import follow, recorded
from tests.e2e.visitor import Visitor


@pytest.fixture
def visitor(stack: Stack) -> Visitor:
    return Visitor(stack.console.url)


def queue_batch(stack: Stack, count: int, batch: str = "spring") -> list[int]:
    texts = [{"to": number(n), "body": "Hello.", "kind": "otp"} for n in range(count)]
    return stack.invoke("send_sms", {"batch": batch, "messages": texts})["message_ids"]  # type: ignore[no-any-return]


def test_a_search_for_a_batch_leads_to_its_counts_and_messages(stack: Stack, visitor: Visitor) -> None:
    ids = queue_batch(stack, 3)
    sent = stack.invoke("send_sms", message(7, batch="spring"))["message_id"]
    queue_batch(stack, 1, "autumn")

    answered = visitor.post("/do/search", word="spring")
    assert answered.location == f"/messages/{sent}/batch"
    seen = visitor.get(answered.location)

    assert "Batch spring Messages by status waiting 3 sent 1" in seen.words
    assert re.findall(r'scope="row"[^>]*><a href="/messages/(\d+)"', seen.text) == [
        str(id) for id in (sent, *ids[::-1])
    ]


def test_the_page_of_a_message_leads_to_its_batch(stack: Stack, visitor: Visitor) -> None:
    [id] = queue_batch(stack, 1)
    assert f'href="/messages/{id}/batch"' in visitor.get(f"/messages/{id}").text
    alone = stack.invoke("send_sms", message(2))["message_id"]
    assert "/batch" not in visitor.get(f"/messages/{alone}").text
    assert visitor.get(f"/messages/{alone}/batch").status == 404


def test_a_long_batch_is_listed_page_by_page(stack: Stack, visitor: Visitor) -> None:
    ids = queue_batch(stack, 70)
    first = visitor.get(f"/messages/{ids[0]}/batch")
    further = re.search(r'href="([^"]+)" rel="next"', first.text)
    assert further
    second = visitor.get(f"/messages/{ids[0]}/batch{further[1]}")
    listed = re.findall(r'scope="row"[^>]*><a href="/messages/(\d+)"', first.text + second.text)
    assert [int(id) for id in listed] == ids[::-1]


def test_a_batch_is_cancelled_only_after_confirmation(stack: Stack, visitor: Visitor) -> None:
    id, *_ = queue_batch(stack, 3)
    queue_batch(stack, 1, "autumn")
    assert visitor.post("/do/cancel_batch", message_id=id).status == 400
    assert statuses(stack) == {"queued": 4}
    seen = follow(visitor, visitor.post("/do/cancel_batch", message_id=id, sure="yes"))
    assert "Messages cancelled: 3. No message of the batch is sent again." in seen.words
    assert "cancelled 3" in seen.words
    assert "Cancel the batch" not in seen.words
    assert statuses(stack) == {"queued": 1, "cancelled": 3}
    assert {(action, subject) for _, action, subject, _ in recorded(stack)} == {("cancel", "batch spring")}


def test_a_batch_of_which_a_message_is_being_sent_is_not_yet_cancelled(stack: Stack, visitor: Visitor) -> None:
    id, *_ = queue_batch(stack, 2)
    stack.db.execute("select * from sms_retry.claim_sms(1)")
    seen = follow(visitor, visitor.post("/do/cancel_batch", message_id=id, sure="yes"))
    assert "Messages cancelled: 1. Some are left" in seen.words


def test_a_batch_is_held_and_its_hold_is_cleared(stack: Stack, visitor: Visitor) -> None:
    id, *_ = queue_batch(stack, 2, "spring sale ")
    place = f"/messages/{id}/batch"
    held = visitor.post("/do/hold", scope="batch", message_id=id, minutes=60, reason="a wrong text")
    assert "The hold is set." in follow(visitor, held).words
    stack.invoke("process_retries")
    assert statuses(stack) == {"queued": 2}

    seen = visitor.get(place)
    assert "a wrong text" in seen.words
    handle = re.search(r'name="hold" value="([^"]+)"', seen.text)
    assert handle
    assert "The hold is cleared." in follow(visitor, visitor.post("/do/clear", hold=handle[1])).words
    assert "Hold the batch" in visitor.get(place).words


def test_a_number_in_the_name_of_a_batch_is_masked(stack: Stack, visitor: Visitor) -> None:
    [id] = queue_batch(stack, 1, f"for {number(1)}")
    for page in (f"/messages/{id}", f"/messages/{id}/batch"):
        assert number(1) not in visitor.get(page).text

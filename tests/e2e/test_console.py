"""The console over HTTP: its pages, its forms, and the requests that it refuses."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from local.aws.triggers import http_api_event
from local.stack import OPERATOR, Stack, session_of
from local.twilio.stand_in import Accept, Callbacks, Refuse, Reset, always
from local.waiting import let_time_pass
from sms_retry.console import csrf
from sms_retry.operate import masked
from tests.e2e.messages import BODY, PEOPLE, message, number, queue, statuses
from tests.e2e.visitor import FROM_HERE, Seen, Visitor

PAGES = ("/", "/waiting", "/stuck", "/ended", "/holds", "/senders", "/usage", "/budgets", "/people", "/actions")
LOST = Reset(Accept(callbacks=Callbacks(lost=1), list_lag=86_400))


@pytest.fixture
def visitor(stack: Stack) -> Visitor:
    return Visitor(stack.console.url)


def one_of_everything(stack: Stack) -> dict[str, int]:
    """A waiting, a failed, a delivered and an unknown message, and a hold."""
    stack.twilio.plan(number(1), Refuse(400, 30003), Refuse(400, 30003))
    stack.twilio.plan(number(2), Refuse(400, 21211))
    stack.twilio.plan(number(4), LOST)
    found = {
        how: stack.invoke("send_sms", message(n, message_key=f"key-{n}"))["message_id"]
        for n, how in enumerate(("waiting", "failed", "delivered", "unknown"), 1)
    }
    stack.twilio.deliver_callbacks()
    stack.db.execute("select sms_retry.open_sms_hold('recipient', %s, '1 hour', 'by hand')", [number(1)])
    return found


def recorded(stack: Stack) -> list[tuple[str, str, str, str | None]]:
    """The recorded actions."""
    rows = stack.db.execute("select actor, action, subject, result from sms_retry.sms_actions order by id")
    return [(actor, action, subject, result) for actor, action, subject, result in rows]


def follow(visitor: Visitor, answered: Seen) -> Seen:
    assert answered.status == 303, answered.words
    return visitor.get(answered.location)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_without_rows_says_so_and_needs_no_script(visitor: Visitor, page: str) -> None:
    seen = visitor.get(page)
    assert seen.status == 200
    assert "<script" not in seen.text
    assert seen.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
    assert seen.headers["cache-control"] == "no-store"
    assert 'aria-current="page"' in seen.text


def test_the_overview_shows_the_state_of_the_queue_and_its_reasons(stack: Stack, visitor: Visitor) -> None:
    assert "Healthy No message ended in the last day." in visitor.get("/").words
    found = one_of_everything(stack)
    assert "Critical 50.0% of the last day's messages were sent." in visitor.get("/").words
    let_time_pass(stack.db, minutes=40)

    seen = visitor.get("/").words

    assert "21211" in seen
    assert f"{found['waiting']} default · otp {masked(number(1))} waiting" in seen
    assert "no worker has claimed it" in seen
    assert f"{found['unknown']} default · otp {masked(number(4))} unknown" in seen
    assert "Twilio is being asked" in seen

    stack.db.execute("select sms_retry.open_sms_hold('account', '*', '1 hour', 'error_20003')")
    seen = visitor.get("/").words
    assert "On hold The account sends nothing: error 20003: Twilio does not accept the credentials" in seen
    assert "A hold on the account or the sender may keep it back." in seen


def test_no_page_shows_a_number_or_a_text_without_the_form_for_them(stack: Stack, visitor: Visitor) -> None:
    found = one_of_everything(stack)
    visitor.post("/do/consent", number=number(3), business_id="*", consent="opted_out")
    for page in (*PAGES, *(f"/messages/{id}{rest}" for id in found.values() for rest in ("", "/person"))):
        seen = visitor.get(page)
        assert seen.status == 200
        assert not re.search(re.escape(PEOPLE) + r"\d", seen.text)
        assert BODY not in seen.text


def test_number_and_text_are_shown_on_request_and_the_request_is_recorded(stack: Stack, visitor: Visitor) -> None:
    id = queue(stack, 7)
    seen = visitor.post("/do/show", message_id=id)
    assert number(7) in seen.words
    assert BODY in seen.words
    assert f"{OPERATOR.actor} viewed number and text" in visitor.get(f"/messages/{id}").words
    assert recorded(stack) == [(OPERATOR.actor, "show", f"message {id}", "number and text")]


def test_html_in_a_text_is_escaped(stack: Stack, visitor: Visitor) -> None:
    evil = "<script>alert(1)</script> & <b onclick='x'>\"Hi\"</b>"
    id = stack.invoke("send_sms", {"to": number(1), "body": evil, "kind": "otp", "message_key": evil})["message_id"]
    for seen in (visitor.post("/do/show", message_id=id), visitor.get(f"/messages/{id}")):
        assert "<script" not in seen.text
        assert "<b onclick" not in seen.text
        assert evil in seen.words


def test_a_story_shows_every_step_in_order(stack: Stack, visitor: Visitor) -> None:
    stack.twilio.plan(number(1), Refuse(400, 30001), Accept(("sent", ("undelivered", 30003))))
    id = stack.invoke("send_sms", message(1))["message_id"]
    visitor.post("/do/retry", message_id=id)
    stack.let_minutes_pass(2)

    story = visitor.get(f"/messages/{id}").words

    steps = (
        "Taken in",
        "Twilio refused it",
        f"{OPERATOR.actor} made it due now",
        "Twilio accepted it",
        "Delivery receipt: sent",
        "Delivery receipt: undelivered",
        "Next try",
    )
    assert [story.index(step) for step in steps] == sorted(story.index(step) for step in steps)
    assert "30003 The phone is off" in story


def test_a_number_in_an_error_message_of_twilio_is_masked(stack: Stack, visitor: Visitor) -> None:
    id = stack.invoke("send_sms", message(1, failed={"error_code": 21211, "error_message": f"{number(1)} is none"}))
    assert f"{masked(number(1))} is none" in visitor.get(f"/messages/{id['message_id']}").words


@pytest.mark.parametrize("by", ["id", "key", "sid", "number", "number with punctuation"])
def test_a_search_leads_to_an_address_without_the_searched_word(stack: Stack, visitor: Visitor, by: str) -> None:
    sent = stack.invoke("send_sms", message(1, message_key="booking-1"))
    id = sent["message_id"]
    words = {
        "id": id,
        "key": "booking-1",
        "sid": sent["provider_sid"],
        "number": number(1),
        "number with punctuation": f" 0049 {number(1)[3:6]} / {number(1)[6:]} ",
    }
    answered = visitor.post("/do/search", word=words[by])
    assert answered.location == f"/messages/{id}" + ("/person" if by.startswith("number") else "")
    assert visitor.get(answered.location).status == 200


def test_a_key_of_several_businesses_finds_each_message_and_an_unknown_word_none(
    stack: Stack, visitor: Visitor
) -> None:
    for business in ("bakery", "shop", "zoo"):
        stack.invoke("send_sms", message(1, message_key="order-1", business_id=business))
    found = visitor.post("/do/search", word="order-1")
    assert [business in found.words for business in ("bakery", "shop", "zoo")] == [True] * 3
    for nothing in ("order-2", "99999999", "+4915112345678", "SM" + "0" * 32, "%", "' or 1=1 --", "🙂"):
        seen = visitor.post("/do/search", word=nothing)
        assert (seen.status, "No message has this" in seen.words) == (200, True)


def test_the_page_of_a_person_lists_all_messages_to_that_number(stack: Stack, visitor: Visitor) -> None:
    first, other, last = queue(stack, 1), queue(stack, 2), queue(stack, 1)
    seen = visitor.get(f"/messages/{first}/person")
    assert re.findall(r'href="/messages/(\d+)"', seen.text) == [str(first), str(last), str(first)]
    assert str(other) not in re.findall(r"/messages/(\d+)", seen.text)


def test_a_long_list_shows_each_row_once_page_by_page(stack: Stack, visitor: Visitor) -> None:
    ids = [queue(stack, n) for n in range(120)]
    stack.db.execute("update sms_retry.sms_retry_queue set scheduled_for = '2026-01-01 12:00+00'")
    seen, page = [], "/waiting"
    while page:
        text = visitor.get(page).text
        seen += [int(id) for id in re.findall(r'scope="row"[^>]*><a href="/messages/(\d+)"', text)]
        further = re.search(r'href="([^"]+)" rel="next"', text)
        page = further[1].replace("&amp;", "&") if further else ""
    assert seen == ids


def test_ended_messages_are_listed_page_by_page(stack: Stack, visitor: Visitor) -> None:
    for n in range(110):
        stack.twilio.plan(number(n), Refuse(400, 21211))
        queue(stack, n)
    stack.invoke("process_retries")
    first = visitor.get("/ended?code=21211")
    assert "110 messages have failed with 21211" in first.words
    ids, page = [], "/ended?how=failed&code=21211"
    while page:
        text = visitor.get(page).text
        ids += [int(id) for id in re.findall(r'scope="row"[^>]*><a href="/messages/(\d+)"', text)]
        further = re.search(r'href="([^"]+)" rel="next"', text)
        page = further[1].replace("&amp;", "&") if further else ""
    assert sorted(ids) == list(range(1, 111))
    assert "None since" in visitor.get("/ended?code=30003").words


def test_a_waiting_message_is_made_due_now(stack: Stack, visitor: Visitor) -> None:
    stack.twilio.plan(number(1), Refuse(400, 30003))
    id = stack.invoke("send_sms", message(1))["message_id"]
    seen = follow(visitor, visitor.post("/do/retry", page=f"/messages/{id}", message_id=id))
    assert "The message is due now." in seen.words
    stack.invoke("process_retries")
    assert statuses(stack) == {"sent": 1}
    assert recorded(stack) == [(OPERATOR.actor, "retry", f"message {id}", "true")]


def test_an_unknown_message_is_sent_again_only_after_confirmation(stack: Stack, visitor: Visitor) -> None:
    stack.twilio.plan(number(1), LOST)
    id = stack.invoke("send_sms", message(1))["message_id"]
    assert "the person may receive it twice" in visitor.get(f"/messages/{id}").words
    assert "Nothing was changed" in follow(visitor, visitor.post("/do/retry", message_id=id)).words
    assert visitor.post("/do/retry", message_id=id, force="yes").status == 400
    assert statuses(stack) == {"unknown": 1}
    assert (
        "The message is due now."
        in follow(visitor, visitor.post("/do/retry", message_id=id, force="yes", sure="yes")).words
    )
    assert statuses(stack) == {"queued": 1}


def test_a_message_is_cancelled_only_while_it_waits(stack: Stack, visitor: Visitor) -> None:
    id = queue(stack, 1)
    assert "The message is cancelled." in follow(visitor, visitor.post("/do/cancel", message_id=id)).words
    assert "cancelled by hand" in visitor.get(f"/messages/{id}").words
    sent = stack.invoke("send_sms", message(2))["message_id"]
    assert "It is not sent again." in follow(visitor, visitor.post("/do/cancel", message_id=sent)).words
    assert statuses(stack) == {"cancelled": 1, "sent": 1}


def test_all_messages_that_failed_with_a_code_since_a_time_are_requeued(stack: Stack, visitor: Visitor) -> None:
    for n in range(6):
        stack.twilio.plan(number(n), Refuse(400, 21211 if n % 2 else 30007))
        queue(stack, n)
    stack.invoke("process_retries")
    assert statuses(stack) == {"failed": 6}
    since = re.search(r'name="since" value="([^"]+)"', visitor.get("/ended?code=30007").text)
    assert since
    assert visitor.post("/do/requeue", code="30007", since=since[1]).status == 400
    seen = follow(visitor, visitor.post("/do/requeue", code="30007", since=since[1], sure="yes"))
    assert "Due now: 3." in seen.words
    assert statuses(stack) == {"failed": 3, "queued": 3}
    assert {(action, result) for _, action, _, result in recorded(stack)} == {("requeue", "3"), ("requeue", "0")}


def test_a_hold_is_set_and_cleared(stack: Stack, visitor: Visitor) -> None:
    given = {"scope": "country", "key": "+49", "minutes": 60, "reason": "our carrier asked <us>"}
    seen = follow(visitor, visitor.post("/do/hold", **given))
    assert "The hold is set." in seen.words
    assert "country +49 our carrier asked <us>" in seen.words
    handle = re.search(r'name="hold" value="([^"]+)"', seen.text)
    assert handle
    assert "The hold is cleared." in follow(visitor, visitor.post("/do/clear", hold=handle[1])).words
    assert "already cleared" in follow(visitor, visitor.post("/do/clear", hold=handle[1])).words
    assert [(action, subject) for _, action, subject, _ in recorded(stack)] == [
        ("hold", "country +49"),
        ("release", "country +49"),
    ]


def test_a_hold_lasts_as_long_as_each_choice_says(stack: Stack, visitor: Visitor) -> None:
    id = stack.invoke("send_sms", message(1, batch="spring"))["message_id"]
    forms = {
        "/holds": {"scope": "country", "key": "+49"},
        f"/messages/{id}/batch": {"scope": "batch", "message_id": id},
    }
    for page, given in forms.items():
        choices = re.findall(r'<option value="(\d+)"', visitor.get(page).text)
        assert len(choices) >= 3
        for minutes in choices:
            posted = visitor.post("/do/hold", **given, minutes=minutes, reason="by hand")
            assert "The hold is set." in follow(visitor, posted).words


def test_a_hold_on_the_account_stops_the_subaccounts_too(stack: Stack, visitor: Visitor) -> None:
    visitor.post("/do/sender", sender="+15005550001", account="shop")
    given = {"scope": "account", "minutes": 60, "reason": "by hand", "sure": "yes"}
    assert visitor.post("/do/hold", **given).status == 200
    follow(visitor, visitor.post("/do/hold", **given, again="yes"))
    holds = stack.db.execute("select scope, key from sms_retry.sms_holds order by key").fetchall()
    assert holds == [("account", "*"), ("account", "shop")]


def test_a_persons_hold_is_cleared_without_the_number_on_the_page(stack: Stack, visitor: Visitor) -> None:
    visitor.post("/do/hold", scope="recipient", key=number(1), minutes=60, reason="asked for a pause")
    seen = visitor.get("/holds")
    assert number(1) not in seen.text
    handle = re.search(r'name="hold" value="([^"]+)"', seen.text)
    assert handle
    assert "The hold is cleared." in follow(visitor, visitor.post("/do/clear", hold=handle[1])).words


def test_a_sender_is_recorded_and_listed(stack: Stack, visitor: Visitor) -> None:
    seen = follow(visitor, visitor.post("/do/sender", sender="+15005550001", business_id="acme", pace="0.5"))
    assert "The sender is recorded." in seen.words
    assert "+15005550001 acme 0.5" in seen.words
    assert [(action, subject) for _, action, subject, _ in recorded(stack)] == [("sender", "sender +15005550001")]
    another = visitor.post("/do/sender", sender="+15005550002", business_id="acme")
    assert another.status == 400
    assert "business_id has another sender already" in another.words


def test_a_budget_is_set_raised_and_removed(stack: Stack, visitor: Visitor) -> None:
    given = {"scope": "country", "key": "+49", "seconds": "3600"}
    assert "The budget is set." in follow(visitor, visitor.post("/do/budget", **given, segments="0")).words
    queue(stack, 1)
    stack.invoke("process_retries")
    assert statuses(stack) == {"queued": 1}
    assert "country +49 spent: messages wait 0 0 1 h" in visitor.get("/budgets").words
    assert "its budget is spent" in visitor.get("/waiting").words
    follow(visitor, visitor.post("/do/budget", **given, segments="5"))
    stack.invoke("process_retries")
    assert statuses(stack) == {"sent": 1}
    assert "country +49 1 5 1 h" in visitor.get("/budgets").words
    assert "The budget is removed." in follow(visitor, visitor.post("/do/budget", **given)).words
    assert "No budget is set." in visitor.get("/budgets").words
    assert [(action, subject) for _, action, subject, _ in recorded(stack)][-1] == ("budget", "country +49: none")


@pytest.mark.parametrize(
    "wrong", [{"key": "49"}, {"segments": "many"}, {"seconds": "59"}, {"scope": "kind", "key": "sms"}, {"scope": "all"}]
)
def test_an_invalid_budget_is_refused(visitor: Visitor, wrong: dict[str, str]) -> None:
    given = {"scope": "country", "key": "+49", "seconds": "3600", "segments": "5", **wrong}
    assert visitor.post("/do/budget", **given).status == 400
    assert "No budget is set." in visitor.get("/budgets").words


def test_usage_shows_segments_by_day_and_delivery_by_country(stack: Stack, visitor: Visitor) -> None:
    one_of_everything(stack)
    seen = visitor.get("/usage")
    assert "segments 1" in seen.words
    assert f"{datetime.now(UTC):%Y-%m-%d} 1" in seen.words
    assert seen.text.count('<rect class="completed"') == 1
    assert "+49 1 1 2 1 0 100.0 % " in seen.words
    assert "21211 0 0 1 0 0" in visitor.get("/usage?by=code").words
    assert visitor.get("/usage?by=body").status == 400


def test_a_message_shows_the_number_of_its_media_and_their_addresses_on_request(stack: Stack, visitor: Visitor) -> None:
    photo = "https://example.com/private-photo.jpg"
    id = stack.invoke("send_sms", message(1, media_urls=[photo, f"{photo}?2"]))["message_id"]
    seen = visitor.get(f"/messages/{id}")
    assert "Media 2 of 10" in seen.words
    assert "Sender that of the deployment Segments 1" in seen.words
    assert photo not in seen.text
    assert photo in visitor.post("/do/show", message_id=id).text


def test_an_unknown_message_and_the_list_of_unknowns_show_the_sender(stack: Stack, visitor: Visitor) -> None:
    stack.twilio.behave(default=always(Reset(accepted=None)))
    own = stack.invoke("send_sms", message(1, sender="+15005550101", batch="spring"))["message_id"]
    other = stack.invoke("send_sms", message(2))["message_id"]

    assert "Sender +15005550101 Segments 1" in visitor.get(f"/messages/{own}").words
    assert "Sender that of the deployment Segments 1" in visitor.get(f"/messages/{other}").words
    for page in ("/", "/stuck"):
        seen = visitor.get(page).words
        assert f"{own} default · otp · from +15005550101" in seen
        assert f"{other} default · otp {masked(number(2))}" in seen


def test_a_person_opts_out_by_a_message_and_opts_in_by_number(stack: Stack, visitor: Visitor) -> None:
    id = queue(stack, 1)
    seen = follow(visitor, visitor.post("/do/consent", message_id=id, business_id="*", consent="opted_out"))
    assert "that ended: 1." in seen.words
    assert "every business opted out" in seen.words
    assert statuses(stack) == {"failed": 1}
    assert (
        "The person has opted in."
        in follow(visitor, visitor.post("/do/consent", number=number(1), business_id="*", consent="opted_in")).words
    )
    assert [(action, subject) for _, action, subject, _ in recorded(stack)] == [
        ("opted_out", f"{masked(number(1))} by *"),
        ("opted_in", f"{masked(number(1))} by *"),
    ]


def test_a_person_is_erased_only_after_confirmation(stack: Stack, visitor: Visitor) -> None:
    id = queue(stack, 1)
    queue(stack, 2)
    assert visitor.post("/do/erase", message_id=id).status == 400
    asked = visitor.post("/do/erase", message_id=id, sure="yes")
    assert "Erase this person?" in asked.words
    assert statuses(stack) == {"queued": 2}
    seen = follow(visitor, visitor.post("/do/erase", message_id=id, sure="yes", again="yes"))
    assert "Messages erased: 1." in seen.words
    assert visitor.get(f"/messages/{id}").status == 404
    assert statuses(stack) == {"queued": 1}


def test_the_cookie_is_secure_if_the_browser_uses_https(stack: Stack, visitor: Visitor) -> None:
    event = http_api_event("GET", "/people", "", {"cookie": f"__Host-session={session_of(OPERATOR)}"}, b"")
    [cookie] = stack.handlers["console"](event)["cookies"]
    assert cookie.startswith("__Host-console=")
    assert cookie.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")
    assert "Secure" not in visitor.get("/").headers["set-cookie"]


@pytest.mark.parametrize(
    ("headers", "token", "why"),
    [
        ({"sec-fetch-site": "cross-site"}, None, "Another site"),
        ({"sec-fetch-site": "same-site"}, None, "Another site"),
        ({"origin": "https://evil.example"}, None, "Another site"),
        ({"origin": "null"}, None, "Another site"),
        ({"origin": "https://["}, None, "Another site"),
        (FROM_HERE, "", "without the console's cookie"),
        (FROM_HERE, "99999999999.", "another person"),
        (FROM_HERE, "99999999999." + "0" * 64, "another person"),
        (FROM_HERE, "²." + "0" * 64, "without the console's cookie"),
        (FROM_HERE, "é.é", "without the console's cookie"),
    ],
)
def test_a_form_from_another_site_or_without_a_token_changes_nothing(
    stack: Stack, visitor: Visitor, headers: dict[str, str], token: str | None, why: str
) -> None:
    id = queue(stack, 1)
    given = {} if token is None else {"token": token}
    refused = visitor.post("/do/cancel", headers, message_id=id, **given)
    assert (refused.status, why in refused.words) == (403, True), refused.words
    assert (statuses(stack), recorded(stack)) == ({"queued": 1}, [])


def test_a_form_is_valid_for_one_browser_one_person_and_some_hours(stack: Stack, visitor: Visitor) -> None:
    id = queue(stack, 1)
    visitor.get("/")
    [nonce] = visitor.cookies.values()
    now = datetime.now(UTC)
    late = now - csrf.FORM_LASTS - timedelta(minutes=1)
    for token, why in (
        (csrf.token(nonce, OPERATOR.actor, late), "has expired"),
        (csrf.token(nonce, "other@example.com", now), "another person"),
        (csrf.token(csrf.new_nonce(), OPERATOR.actor, now), "another browser"),
    ):
        refused = visitor.post("/do/cancel", message_id=id, token=token)
        assert (refused.status, why in refused.words) == (403, True), refused.words
    stranger = Visitor(visitor.url)
    assert stranger.post("/do/cancel", message_id=id, token=visitor.get("/").token).status == 403
    assert statuses(stack) == {"queued": 1}
    assert visitor.post("/do/cancel", message_id=id, token=csrf.token(nonce, OPERATOR.actor, now)).status == 303


@pytest.mark.parametrize("path", ["/nothing", "/messages", "/messages/", "/do", "/messages/1/other", "/.env", "/do/"])
def test_an_unknown_address_is_not_found(visitor: Visitor, path: str) -> None:
    seen = visitor.get(path)
    assert seen.status in (404, 405)
    assert seen.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("id", ["0", "1", "999999999999999999", "9999999999999999999", "-1", "1.5", "x", "%00", "١"])
def test_an_unknown_message_id_is_not_found(stack: Stack, visitor: Visitor, id: str) -> None:
    assert visitor.get(f"/messages/{quote(id, safe='%')}").status == 404
    for form in ("retry", "cancel", "show", "consent", "erase"):
        assert visitor.post(f"/do/{form}", message_id=id.replace("%00", "0"), sure="yes").status == 404
    assert recorded(stack) == []


def test_an_address_accepts_only_its_own_method(visitor: Visitor) -> None:
    assert visitor.get("/do/retry").headers["allow"] == "POST"
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        seen = visitor.post("/waiting") if method == "POST" else visitor.get("/waiting", method)
        assert (seen.status, seen.headers["allow"]) == (405, "GET")
    assert visitor.post("/do/nothing").status == 404


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("search", {"word": ""}),
        ("search", {"word": "x" * 256}),
        ("search", {"word": "a\0b"}),
        ("requeue", {"code": "30003", "sure": "yes"}),
        ("requeue", {"code": "x", "since": "2026-01-01T00:00", "sure": "yes"}),
        ("requeue", {"code": "99999999999", "since": "2026-01-01T00:00", "sure": "yes"}),
        ("requeue", {"code": "30003", "since": "2026-13-01T00:00", "sure": "yes"}),
        ("requeue", {"code": "30003", "since": "0001-01-01T00:00", "sure": "yes"}),
        ("hold", {"scope": "world", "minutes": "5", "reason": "x"}),
        ("hold", {"scope": "country", "key": "49", "minutes": "5", "reason": "x"}),
        ("hold", {"scope": "recipient", "key": "+", "minutes": "5", "reason": "x"}),
        ("hold", {"scope": "account", "minutes": "0", "reason": "x"}),
        ("hold", {"scope": "account", "minutes": "999999999999", "reason": "x"}),
        ("hold", {"scope": "account", "minutes": "5", "reason": ""}),
        ("hold", {"scope": "account", "minutes": "5", "reason": "x" * 101}),
        ("consent", {"number": "12", "business_id": "*", "consent": "opted_out"}),
        ("consent", {"number": "+4915112345678", "business_id": "", "consent": "opted_out"}),
        ("consent", {"number": "+4915112345678", "business_id": "*", "consent": "married"}),
        ("erase", {"number": "0", "sure": "yes"}),
        ("erase", {"number": "+4915112345678"}),
    ],
)
def test_an_invalid_field_is_refused_and_changes_nothing(
    stack: Stack, visitor: Visitor, form: str, fields: dict[str, str]
) -> None:
    assert visitor.post(f"/do/{form}", **fields).status == 400
    assert recorded(stack) == []


@pytest.mark.parametrize(
    "query", ["how=x", "code=x", "since=x", "since=2026-02-31T00:00", "after=x", "after=1", "after=-"]
)
def test_an_invalid_query_is_refused(visitor: Visitor, query: str) -> None:
    assert visitor.get(f"/ended?{query}").status == 400


def test_the_stylesheet_is_cached_under_an_address_of_its_version(visitor: Visitor) -> None:
    href = re.search(r'href="(/style.css\?v=[0-9a-f]{12})"', visitor.get("/").text)
    assert href
    style = visitor.get(href[1])
    assert (style.status, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in style.headers["cache-control"]

"""Signing in to the console at an OpenID provider, and the requests that are refused without an operator's session."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from playwright.sync_api import Browser, expect

from local.aws.triggers import http_api_event, http_front, routes
from local.browser import CHROMIUM
from local.openid import Provider, openid_provider
from local.stack import ENVIRONMENT, OPERATOR, TEMPLATE, Stack
from sms_retry.console import actions, pages, session
from sms_retry.console.session import Person
from tests.e2e.messages import queue, statuses
from tests.e2e.visitor import FROM_HERE, Seen, Visitor

# Authlib warns of its own old modules, which the provider uses.
pytestmark = pytest.mark.filterwarnings("ignore")

PUBLIC = {"/sign-in", "/sign-in/done", "/signed-out", "/style.css"}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with openid_provider() as found:
        monkeypatch.setenv("CONSOLE_ISSUER", found.issuer)
        yield found


@pytest.fixture
def console(stack: Stack) -> Iterator[str]:
    """The address of a console to which each person must sign in."""
    with http_front(routes(TEMPLATE, "ConsoleApi"), is_console=True) as front:
        yield front.url


@pytest.fixture
def visitor(console: str) -> Visitor:
    return Visitor(console)


def authorized(address: str, person: str) -> str:
    """The address to which the provider sends the browser of this person."""
    answered = requests.post(address, {"sub": person}, allow_redirects=False, timeout=10)
    assert answered.status_code == 302, answered.text
    return answered.headers["location"]


def path(address: str) -> str:
    parts = urlsplit(address)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def sign_in(visitor: Visitor, provider: Provider, person: str, to: str = "/") -> Seen:
    begun = visitor.get(f"/sign-in?to={to}")
    assert begun.status == 303, begun.words
    done = visitor.get(path(authorized(begun.location, person)))
    assert done.status == 303, done.words
    return done


def with_session(console: str, **changed: Any) -> Visitor:
    given = {"person": OPERATOR, "key": ENVIRONMENT["CONSOLE_SESSION_KEY"], "now": datetime.now(UTC)} | changed
    return Visitor(console, {"session": session.session(**given)})


def test_an_operator_signs_in_acts_and_signs_out(stack: Stack, visitor: Visitor, provider: Provider) -> None:
    id = queue(stack, 1)
    assert visitor.get("/waiting").location == "/sign-in?to=%2Fwaiting"

    assert sign_in(visitor, provider, "anna", to="/waiting").location == "/waiting"

    assert "Signed in as anna@example.com" in visitor.get("/waiting").words
    assert visitor.post("/do/cancel", page="/waiting", message_id=id).status == 303
    assert statuses(stack) == {"cancelled": 1}
    [actor] = stack.db.execute("select actor from sms_retry.sms_actions").fetchall()
    assert actor == (f"anna@example.com (anna at {provider.issuer})",)

    assert visitor.post("/do/sign-out", page="/waiting").location == "/signed-out"
    assert visitor.get("/signed-out").status == 200
    assert visitor.get("/waiting").status == 303


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}: install Debian's package chromium")
@pytest.mark.xdist_group("chromium")
def test_a_person_signs_in_clears_a_hold_and_signs_out_with_a_browser(
    stack: Stack, console: str, provider: Provider, chromium: Browser
) -> None:
    stack.db.execute("select sms_retry.open_sms_hold('account', '*', '1 hour', 'by hand')")
    page = chromium.new_page(base_url=console)
    page.goto("/holds")
    page.get_by_placeholder("sub").fill("anna")
    page.get_by_role("button", name="Authorize").click()
    expect(page).to_have_url(f"{console}/holds")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("status")).to_contain_text("The hold is cleared.")

    page.context.clear_cookies(name="session")
    page.get_by_role("link", name="Waiting").click()
    expect(page.get_by_role("heading", name="Authorize Client")).to_be_visible()
    page.get_by_placeholder("sub").fill("vera")
    page.get_by_role("button", name="Authorize").click()
    expect(page.get_by_text("to look only")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")
    page.close()


def test_no_script_and_no_other_host_can_read_the_cookies_of_a_sign_in(stack: Stack, provider: Provider) -> None:
    at = {"stageVariables": {"CONSOLE_URL": "https://console.example.com"}}

    def cookies(path: str, query: str = "", cookie: str = "") -> list[str]:
        event = http_api_event("GET", path, query, {"cookie": cookie}, b"")
        return stack.handlers["console"](event | at)["cookies"]

    event = http_api_event("GET", "/sign-in", "", {}, b"")
    begun = stack.handlers["console"](event | at)
    answer = urlsplit(authorized(begun["headers"]["location"], "anna"))
    kept = "; ".join(cookie.partition(";")[0] for cookie in begun["cookies"])
    made = begun["cookies"] + cookies(answer.path, answer.query, kept)
    assert {cookie.partition("=")[0] for cookie in made} == {"__Host-console", "__Host-attempt", "__Host-session"}
    for cookie in made:
        assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))


def test_a_viewer_looks_and_searches_and_may_not_act(stack: Stack, visitor: Visitor, provider: Provider) -> None:
    id = queue(stack, 1)
    sign_in(visitor, provider, "vera")
    # Her address is not verified, so it is no name.
    assert "Signed in as vera , to look only" in visitor.get("/").words
    assert visitor.post("/do/search", word=str(id)).status == 303
    for page in ("/holds", "/people", "/senders", f"/messages/{id}", f"/messages/{id}/person"):
        assert set(forms(visitor.get(page))) == {"search", "sign-out"}
    for form in [*actions.FORMS, "show"]:
        assert visitor.post(f"/do/{form}", message_id=id, sure="yes", again="yes").status == 403
    assert statuses(stack) == {"queued": 1}


def forms(seen: Seen) -> list[str]:
    return [part.partition('"')[0] for part in seen.text.split('method="post" action="/do/')[1:]]


@pytest.mark.parametrize(
    ("claim", "value"), [("", "sms-operators"), ("groups", ""), ("groups", "sms"), ("email", "anna")]
)
def test_without_its_claim_and_value_every_person_is_a_viewer(
    visitor: Visitor, provider: Provider, monkeypatch: pytest.MonkeyPatch, claim: str, value: str
) -> None:
    monkeypatch.setenv("CONSOLE_OPERATOR_CLAIM", claim)
    monkeypatch.setenv("CONSOLE_OPERATOR_VALUE", value)
    sign_in(visitor, provider, "anna")
    assert "to look only" in visitor.get("/").words


def every_route() -> list[tuple[str, str]]:
    """The method and an address of each route in the code."""
    found = [(route.method, route.path) for route in pages.app._static_routes + pages.app._dynamic_routes]
    shown = [(method, path.replace("<message_id>", "1")) for method, path in found if "<form>" not in path]
    return shown + [("POST", f"/do/{form}") for form in actions.FORMS]


@pytest.mark.parametrize(
    "changed",
    [
        None,
        {"now": datetime.now(UTC) - session.SESSION_LASTS - timedelta(seconds=1)},
        {"key": "another-key-of-32-characters-----"},
    ],
    ids=["without a session", "with an expired session", "with a session of another key"],
)
def test_every_route_is_refused_without_a_session(stack: Stack, console: str, changed: dict[str, Any] | None) -> None:
    queue(stack, 1)
    visitor = Visitor(console) if changed is None else with_session(console, **changed)
    seen = {(method, path): refused(visitor, method, path) for method, path in every_route() if path not in PUBLIC}
    assert len(seen) > 15
    assert set(seen.values()) == {"/sign-in", 401}
    assert statuses(stack) == {"queued": 1}


def refused(visitor: Visitor, method: str, path: str) -> object:
    """The status of a refusal, or the address of a redirect."""
    if method == "GET":
        seen = visitor.get(path)
    else:
        seen = visitor._ask("POST", path, urlencode({"message_id": 1, "sure": "yes"}), dict(FROM_HERE))
    return seen.location.partition("?")[0] if seen.status == 303 else seen.status


@pytest.mark.parametrize("route", [each for each in every_route() if each[0] == "POST"], ids=lambda route: route[1])
def test_every_form_is_refused_to_a_viewer_but_search_and_sign_out(console: str, route: tuple[str, str]) -> None:
    viewer = with_session(console, person=Person("vera", "https://id.example.com", None, is_operator=False))
    allowed = route[1] in ("/do/search", "/do/sign-out")
    assert (viewer.post(route[1], page="/", word="1").status == 403) is not allowed


def test_an_attempt_is_no_session(console: str) -> None:
    attempt = session.Attempt("s", "n", "v", "/")
    forged = session.attempt(attempt, ENVIRONMENT["CONSOLE_SESSION_KEY"], datetime.now(UTC))
    assert Visitor(console, {"session": forged}).get("/").location.startswith("/sign-in")


def test_the_provider_gets_a_challenge_and_then_its_verifier(visitor: Visitor, provider: Provider) -> None:
    begun = visitor.get("/sign-in")
    asked = dict(parse_qsl(urlsplit(begun.location).query))
    visitor.get(path(authorized(begun.location, "anna")))
    [posted] = provider.posted
    digest = hashlib.sha256(posted["code_verifier"].encode()).digest()
    assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == posted["redirect_uri"] == f"{visitor.url}/sign-in/done"


def test_the_answer_to_another_browser_or_attempt_is_refused(visitor: Visitor, provider: Provider) -> None:
    begun = visitor.get("/sign-in")
    answer = path(authorized(begun.location, "anna"))
    assert Visitor(visitor.url).get(answer).status == 403
    visitor.get("/sign-in")
    assert visitor.get(answer).status == 403
    assert "session" not in visitor.cookies
    assert provider.posted == []


def test_a_code_that_the_provider_does_not_know_is_refused(visitor: Visitor, provider: Provider) -> None:
    begun = visitor.get("/sign-in")
    state = dict(parse_qsl(urlsplit(begun.location).query))["state"]
    assert visitor.get(f"/sign-in/done?code=stolen&state={state}").status == 403
    assert visitor.get(f"/sign-in/done?error=access_denied&state={state}").status == 403
    assert not visitor.cookies.get("session")


def test_a_provider_that_does_not_answer_is_named_as_the_cause(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSOLE_ISSUER", "http://localhost:1")
    seen = visitor.get("/sign-in")
    assert (seen.status, "The provider does not answer." in seen.words) == (502, True)


@pytest.mark.parametrize(
    "place", ["//evil.example.com", "https://evil.example.com", "/\\evil.example.com", "/%0d%0aX:y"]
)
def test_after_sign_in_the_browser_stays_in_the_console(visitor: Visitor, provider: Provider, place: str) -> None:
    assert sign_in(visitor, provider, "anna", to=place).location == "/"

"""Requests and responses: the signed-in person, headers, the cookie, forms, and pages for problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.shared.cookies import Cookie, SameSite

from sms_retry.console import csrf, session, view
from sms_retry.console.fields import InvalidField, NoSuchMessage
from sms_retry.console.session import Person
from sms_retry.console.sign_in import Access
from sms_retry.store import Store

Page = Response[str]

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    # Not no-referrer: with it a browser posts forms with the origin "null".
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


# The addresses that need no session, and the forms that a viewer may send.
PUBLIC = frozenset({"/sign-in", "/sign-in/done", "/signed-out", "/style.css"})
FOR_VIEWERS = frozenset({"/do/search", "/do/sign-out"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `token` goes into the forms of the page; `fields` are those of a posted form.

    `person` is None without a session. `cookies` are by their names without a prefix, and `is_secure` tells whether the
    browser speaks TLS.
    """

    store: Store
    access: Access
    now: datetime
    query: Mapping[str, str]
    person: Person | None = None
    token: str | None = None
    cookies: Mapping[str, str] = field(default_factory=dict)
    is_secure: bool = True
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def actor(self) -> str:
        return self.person.actor if self.person else ""

    @property
    def nonce(self) -> str | None:
        """The value of the console's cookie, if the browser has a well-formed one."""
        return csrf.nonce(self.cookies.get("console"))


app = APIGatewayHttpResolver(debug=False)


def request() -> Request:
    """The current request: a container answers one at a time."""
    asked: Request = app.context["request"]
    return asked


def page(template: str, **values: Any) -> Page:
    asked = request()
    notice = csrf.notice(asked.nonce, asked.actor, asked.query.get("notice", ""))
    given = {"now": asked.now, "person": asked.person, "token": asked.token, "notice": notice}
    return Response(200, "text/html; charset=utf-8", view.render(template, **given, **values), compress=True)


def problem(status: int, heading: str, sentence: str) -> Page:
    found = page("problem.html", here="", status=status, heading=heading, sentence=sentence)
    found.status_code = status
    return found


def go(place: str, notice: str = "") -> Page:
    """A redirect to a page that can be reloaded without a repeated action, and its notice."""
    asked = request()
    if notice:
        place += "?" + urlencode({"notice": csrf.noticed(asked.nonce or "", asked.actor, notice)})
    return Response(303, headers={"location": place})


def cookie(name: str, value: str, lasts: timedelta | None = None) -> Cookie:
    """A cookie that no script and no other host can read or set; without `lasts` until the browser is closed."""
    # Lax, not Strict: after a link from another site a new cookie would invalidate the forms in other tabs, and the
    # provider's answer would come without its attempt.
    asked, lax = request(), SameSite.LAX_MODE
    seconds = None if lasts is None else int(lasts.total_seconds())
    prefixed = f"{_prefix(asked.is_secure)}{name}"
    return Cookie(prefixed, value, path="/", secure=asked.is_secure, http_only=True, max_age=seconds, same_site=lax)


def guard(app: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Page:
    """Admits signed-in people and the console's own forms, and adds the headers."""
    event, asked = app.current_event, request()
    is_secure = event.headers.get("x-forwarded-proto") != "http"
    cookies = _cookies(event.raw_event.get("cookies") or [], _prefix(is_secure))
    asked = replace(asked, cookies=cookies, is_secure=is_secure)
    asked = replace(asked, person=session.person(cookies.get("session"), asked.access.key, asked.now))
    made = asked.nonce or csrf.new_nonce()
    token = csrf.token(made, asked.actor, asked.now) if asked.person else None
    app.context["request"] = replace(asked, token=token)
    answered = _refused() or _answered(app, next_middleware)
    answered.headers = {**HEADERS, **answered.headers}
    if asked.nonce is None:
        answered.cookies = [*answered.cookies, cookie("console", made)]
    return answered


app.use([guard])


@app.not_found
def nothing_here(_: Exception) -> Page:
    return no_page()


def no_page() -> Page:
    """404, or 405 if the address may exist for another method."""
    event = app.current_event
    allowed = "POST" if event.path.startswith("/do/") else "GET"
    if event.http_method == allowed:
        return problem(404, "Page not found", "This page does not exist.")
    refused = problem(405, "Method not allowed", f"This address accepts {allowed} only.")
    refused.headers["allow"] = allowed
    return refused


def _refused() -> Page | None:
    """The page that refuses a request; None admits it, with the fields of its form."""
    event, asked = app.current_event, request()
    is_form = event.http_method == "POST"
    if asked.person is None and (is_form or event.path not in PUBLIC):
        if is_form:
            return problem(401, "Not signed in", "Your session is over. Nothing was changed.")
        return go("/sign-in?" + urlencode({"to": event.path}))
    if asked.person is None or not is_form:
        return None
    try:
        fields = csrf.form(event.decoded_body or "")
    except ValueError:
        return problem(400, "Invalid form", "This is not a form of the console.")
    app.context["request"] = replace(asked, fields=fields)
    headers = {name.lower(): value for name, value in event.headers.items()}
    if why := csrf.refusal(headers, fields, asked.nonce, asked.actor, asked.now):
        return problem(403, "Nothing was changed", f"{why} Go back, reload the page and try again.")
    if not asked.person.is_operator and event.path not in FOR_VIEWERS:
        return problem(403, "Nothing was changed", "You may look. Only an operator may act, or see a number or a text.")
    return None


def _answered(app: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Page:
    try:
        found: Page = next_middleware(app)
    except InvalidField as error:
        return problem(400, "Invalid input", str(error))
    except NoSuchMessage:
        return problem(404, "Message not found", "No message has this id. It may have been erased.")
    return found


def _cookies(sent: list[str], prefix: str) -> dict[str, str]:
    """The console's cookies, the first of each name."""
    found: dict[str, str] = {}
    for each in sent:
        name, _, value = each.partition("=")
        if name in {f"{prefix}{ours}" for ours in ("console", "session", "attempt")}:
            found.setdefault(name.removeprefix(prefix), value)
    return found


def _prefix(is_secure: bool) -> str:
    """Browsers store a cookie `__Host-` only from this very host, by TLS."""
    return "__Host-" if is_secure else ""

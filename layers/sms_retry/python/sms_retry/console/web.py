"""Requests and responses: the signed-in person, headers, the cookie, forms, and pages for problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.shared.cookies import Cookie, SameSite

from sms_retry.console import csrf, view
from sms_retry.console.fields import InvalidField, NoSuchMessage
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


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `token` goes into the forms of the page; `fields` are those of a posted form.

    `nonce` is the value of the console's cookie.
    """

    store: Store
    now: datetime
    query: Mapping[str, str]
    actor: str | None = None
    token: str | None = None
    nonce: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


app = APIGatewayHttpResolver(debug=False)


def request() -> Request:
    """The current request: a container answers one at a time."""
    asked: Request = app.context["request"]
    return asked


def page(template: str, **values: Any) -> Page:
    asked = request()
    notice = csrf.notice(asked.nonce, asked.actor, asked.query.get("notice", ""))
    given = {"now": asked.now, "actor": asked.actor, "token": asked.token, "notice": notice}
    return Response(200, "text/html; charset=utf-8", view.render(template, **given, **values), compress=True)


def problem(status: int, heading: str, sentence: str) -> Page:
    found = page("problem.html", here="", status=status, heading=heading, sentence=sentence)
    found.status_code = status
    return found


def go(place: str, notice: str = "") -> Page:
    """A redirect to a page that can be reloaded without a repeated action, and its notice."""
    asked = request()
    if notice:
        place += "?" + urlencode({"notice": csrf.noticed(asked.nonce or "", asked.actor or "", notice)})
    return Response(303, headers={"location": place})


def guard(app: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Page:
    """Admits signed-in people and the console's own forms, and adds the headers."""
    event = app.current_event
    is_secure = event.headers.get("x-forwarded-proto") != "http"
    cookie = "__Host-console" if is_secure else "console"
    actor, nonce = csrf.actor(event.raw_event), csrf.nonce(event.raw_event.get("cookies") or [], cookie)
    made = nonce or csrf.new_nonce()
    token = actor and csrf.token(made, actor, request().now)
    app.context["request"] = replace(request(), actor=actor, token=token, nonce=nonce)
    answered = _refused(nonce) or _answered(app, next_middleware)
    answered.headers = {**HEADERS, **answered.headers}
    if nonce is None:
        # Lax, not Strict: after a link from another site a new cookie would invalidate the forms in other tabs.
        lax = SameSite.LAX_MODE
        answered.cookies = [Cookie(cookie, made, path="/", secure=is_secure, http_only=True, same_site=lax)]
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


def _refused(nonce: str | None) -> Page | None:
    """The page that refuses a request; None admits it, with the fields of its form."""
    event, asked = app.current_event, request()
    if asked.actor is None:
        return problem(401, "Not signed in", "The console's authorizer has not identified you.")
    if event.http_method != "POST":
        return None
    try:
        fields = csrf.form(event.decoded_body or "")
    except ValueError:
        return problem(400, "Invalid form", "This is not a form of the console.")
    app.context["request"] = replace(asked, fields=fields)
    headers = {name.lower(): value for name, value in event.headers.items()}
    why = csrf.refusal(headers, fields, nonce, asked.actor, asked.now)
    return problem(403, "Nothing was changed", f"{why} Go back, reload the page and try again.") if why else None


def _answered(app: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Page:
    try:
        found: Page = next_middleware(app)
    except InvalidField as error:
        return problem(400, "Invalid input", str(error))
    except NoSuchMessage:
        return problem(404, "Message not found", "No message has this id. It may have been erased.")
    return found

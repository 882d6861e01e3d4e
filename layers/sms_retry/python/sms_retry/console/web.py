"""Requests in, pages out: who is let in, what every answer carries, and what a problem looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.shared.cookies import Cookie, SameSite

from sms_retry.console import csrf, forms, view
from sms_retry.store import Store

Page = Response[str]

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    # Not no-referrer: with it a browser says that it posts a form from nowhere.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for what. `token` is what the forms of the page must bring back; `fields` are those of a posted form."""

    store: Store
    now: datetime
    query: Mapping[str, str]
    actor: str | None = None
    token: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


app = APIGatewayHttpResolver(debug=False)


def answer(event: Mapping[str, Any], context: Any, store: Store) -> dict[str, Any]:
    """The HTTP API's response to an event of it (payload 2.0)."""
    app.context["request"] = Request(store, datetime.now(UTC), event.get("queryStringParameters") or {})
    return app.resolve(event, context)


def request() -> Request:
    """What is being answered now: a container answers one request at a time."""
    asked: Request = app.context["request"]
    return asked


def page(template: str, **values: Any) -> Page:
    asked = request()
    given = {"now": asked.now, "actor": asked.actor, "token": asked.token, "notice": forms.notice(asked.query)}
    return Response(200, "text/html; charset=utf-8", view.render(template, **given, **values), compress=True)


def problem(status: int, heading: str, sentence: str) -> Page:
    found = page("problem.html", here="", status=status, heading=heading, sentence=sentence)
    found.status_code = status
    return found


def go(place: str) -> Page:
    """To another page, which can be reloaded without doing anything twice."""
    return Response(303, headers={"location": place})


def guard(app: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Page:
    """Lets in whom the authorizer vouches for, takes only forms that come from here, and puts on the headers."""
    event = app.current_event
    is_secure = event.headers.get("x-forwarded-proto") != "http"
    cookie = "__Host-console" if is_secure else "console"
    actor, nonce = csrf.actor(event.raw_event), csrf.nonce(event.raw_event.get("cookies") or [], cookie)
    made = nonce or csrf.new_nonce()
    token = actor and csrf.token(made, actor, request().now)
    app.context["request"] = replace(request(), actor=actor, token=token)
    answered = _refused(nonce) or _answered(app, next_middleware)
    answered.headers = {**HEADERS, **answered.headers}
    if nonce is None:
        # Lax, not Strict: whoever follows a link to here would look new, and the forms in their other tabs be void.
        lax = SameSite.LAX_MODE
        answered.cookies = [Cookie(cookie, made, path="/", secure=is_secure, http_only=True, same_site=lax)]
    return answered


app.use([guard])


@app.not_found
def nothing_here(_: Exception) -> Page:
    return no_page()


def no_page() -> Page:
    """Nothing is at this address, or nothing that answers to this method."""
    event = app.current_event
    allowed = "POST" if event.path.startswith("/do/") else "GET"
    if event.http_method == allowed:
        return problem(404, "Nothing here", "There is no such page.")
    refused = problem(405, "Not like this", f"This address answers to {allowed} and to nothing else.")
    refused.headers["allow"] = allowed
    return refused


def _refused(nonce: str | None) -> Page | None:
    """What whoever is not let in is told; None lets them in, with the fields of the form that they post."""
    event, asked = app.current_event, request()
    if asked.actor is None:
        return problem(401, "Who are you?", "The console is for those whom its authorizer vouches for, by name.")
    if event.http_method != "POST":
        return None
    try:
        fields = csrf.form(event.decoded_body or "")
    except ValueError:
        return problem(400, "That cannot be", "This is not a form of the console.")
    app.context["request"] = replace(asked, fields=fields)
    headers = {name.lower(): value for name, value in event.headers.items()}
    why = csrf.refusal(headers, fields, nonce, asked.actor, asked.now)
    return problem(403, "Nothing was done", f"{why} Go back, reload the page and try again.") if why else None


def _answered(app: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Page:
    try:
        found: Page = next_middleware(app)
    except forms.InvalidForm as error:
        return problem(400, "That cannot be", str(error))
    except forms.NoSuchMessage:
        return problem(404, "No such message", "Nobody has taken in a message with this id, or it is erased.")
    return found

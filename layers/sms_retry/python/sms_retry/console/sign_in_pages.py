"""The addresses of sign-in and sign-out."""

from __future__ import annotations

import re
from datetime import timedelta

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from sms_retry.console import session
from sms_retry.console.session import ATTEMPT_LASTS, SESSION_LASTS
from sms_retry.console.sign_in import NotSignedIn
from sms_retry.console.web import Page, cookie, go, page, problem, request

# A page of the console: `//` would begin another host's address.
PLACE = re.compile(r"/(?!/)[\w/-]*", re.ASCII)

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]


@router.get("/sign-in")
def sign_in() -> Page:
    """Sends the browser to the provider, with a cookie that only this attempt's answer fits."""
    asked, access = request(), request().access
    place = asked.query.get("to", "/")
    try:
        address, attempt = access.provider.begin(access.back, place if PLACE.fullmatch(place) else "/")
    except NotSignedIn as error:
        return problem(502, "Not signed in", str(error))
    answered = go(address)
    answered.cookies = [cookie("attempt", session.attempt(attempt, access.key, asked.now), ATTEMPT_LASTS)]
    return answered


@router.get("/sign-in/done")
def signed_in() -> Page:
    asked, access = request(), request().access
    attempt = session.attempted(asked.cookies.get("attempt"), access.key, asked.now)
    if attempt is None:
        return problem(403, "Not signed in", "This browser did not begin a sign-in within the last ten minutes.")
    try:
        person = access.provider.finish(access.back, attempt, asked.query, asked.now)
    except NotSignedIn as error:
        return problem(403, "Not signed in", str(error))
    answered = go(attempt.place)
    answered.cookies = [
        cookie("session", session.session(person, access.key, asked.now), SESSION_LASTS),
        cookie("attempt", "", timedelta(0)),
    ]
    return answered


@router.post("/do/sign-out")
def sign_out() -> Page:
    answered = go("/signed-out")
    answered.cookies = [cookie("session", "", timedelta(0))]
    return answered


@router.get("/signed-out")
def signed_out() -> Page:
    return page("signed_out.html", here="")

"""Every address of the console.

Pages are GETs and change nothing. What changes something, and what is asked for by a number, a key or a SID, is a form
that is posted to /do/..., so that no URL ever holds one. The database masks numbers and keeps texts to itself; the form
`show` asks for those of one message, and is written down like every other action.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from aws_lambda_powertools.event_handler import Response

from sms_retry import health
from sms_retry.console import forms, plots, view
from sms_retry.console.figures import tiles, verdict
from sms_retry.console.story import story
from sms_retry.console.web import Page, answer, app, go, no_page, page, request

__all__ = ["answer"]

ROWS = 50
EPOCH, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
LAST_ID = 2**63 - 1


@app.get("/")
def overview() -> Page:
    store = request().store
    found, last_day, holds = health.check(store), store.read("sms_last_day"), store.read("sms_open_holds")
    return page(
        "overview.html",
        here="/",
        verdict=verdict(found, holds),
        tiles=tiles(found),
        day=plots.day(last_day, request().now),
        codes=plots.codes(last_day),
        reasons=store.read("sms_waiting_for"),
        holds=holds,
        stuck=store.read_list("stuck_sms", 3),
        why=_why(holds),
    )


@app.get("/waiting")
def waiting() -> Page:
    rows = request().store.read_list("waiting_sms", *(_after() or (EPOCH, 0)), ROWS)
    return page("waiting.html", here="/waiting", rows=rows, further=_further("/waiting", rows))


@app.get("/stuck")
def stuck() -> Page:
    store = request().store
    rows, holds = store.read_list("stuck_sms", ROWS), store.read("sms_open_holds")
    return page("stuck.html", here="/stuck", rows=rows, why=_why(holds))


@app.get("/ended")
def ended() -> Page:
    store, query = request().store, request().query
    how, code = query.get("how", "failed"), forms.code(query.get("code"))
    since = forms.instant(query.get("since")) or (request().now - timedelta(days=1)).replace(second=0, microsecond=0)
    if how not in plots.ENDINGS:
        raise forms.InvalidForm("A message ends as failed, cancelled, expired, unknown or sent.")
    rows = store.read_list("ended_sms", how, code, since, *(_after() or (LAST, LAST_ID)), ROWS)
    return page(
        "ended.html",
        here="/ended",
        how=how,
        code=code,
        since=since,
        failed=store.failed_since(code, since)[0] if code and how == "failed" else 0,
        rows=rows,
        further=_further("/ended", rows, how=how, code=code or "", since=since.strftime("%Y-%m-%dT%H:%M")),
    )


@app.get("/holds")
def holds() -> Page:
    return page("holds.html", here="/holds", holds=request().store.read("sms_open_holds"), handle=forms.handle)


@app.get("/people")
def people() -> Page:
    return page("people.html", here="/people")


@app.get("/actions")
def actions() -> Page:
    rows = request().store.read("sms_actions_done", None, _before(), ROWS)
    return page("actions.html", here="/actions", rows=rows, further=len(rows) == ROWS and f"?before={rows[-1].id}")


@app.get("/messages/<message_id>")
def message(message_id: str) -> Page:
    return _message(forms.message_id(request().store, message_id))


@app.get("/messages/<message_id>/person")
def person(message_id: str) -> Page:
    store = request().store
    id = forms.message_id(store, message_id)
    rows = store.read_list("sms_of_same_person", id, _before(), ROWS)
    return page(
        "person.html",
        here="",
        message=store.read("sms_message_details", id)[0],
        consents=store.read("sms_consents_of", id),
        rows=rows,
        further=len(rows) == ROWS and f"?before={rows[-1].message_id}",
    )


@app.get("/style.css")
def style() -> Page:
    forever = {"cache-control": "private, max-age=31536000, immutable"}
    return Response(200, "text/css; charset=utf-8", view.STYLE, forever, compress=True)


@app.post("/do/search")
def search() -> Page:
    store, word = request().store, request().fields.get("word", "")
    if not 1 <= len(word) <= 255:
        raise forms.InvalidForm("Search for an id, a key, a number or a SID.")
    found = {row.message_id: row.found_by for row in store.read("found_sms", word, forms.number_in(word))}
    if len(found) == 1:
        [(id, by)] = found.items()
        return go(f"/messages/{id}/person" if by == "number" else f"/messages/{id}")
    return page("found.html", here="", rows=store.read("listed_sms", list(found)))


@app.post("/do/show")
def show() -> Page:
    asked = request()
    id = forms.message_id(asked.store, asked.fields.get("message_id", ""))
    return _message(id, asked.store.read("show_sms", id, asked.actor)[0])


@app.post("/do/<form>")
def do(form: str) -> Page:
    if form not in forms.FORMS:
        return no_page()
    done = forms.FORMS[form](request().store, request().actor or "", request().fields)
    return go(f"{done.page}?{urlencode({'done': done.notice, 'n': done.n})}")


def _message(id: int, shown: Any = None) -> Page:
    store = request().store
    [found] = store.read("sms_message_details", id)
    actions = store.read("sms_actions_done", f"message {id}", LAST_ID, ROWS)
    told = story(store.read("sms_message_story", id), actions, found, request().now)
    return page("message.html", here="", message=found, story=told, shown=shown, can=forms.possible(found))


def _why(holds: Sequence[Any]) -> Callable[[Any], str]:
    shut = any(hold.scope in ("account", "sender") for hold in holds)
    return lambda row: view.why(row, request().now, shut)


def _further(place: str, rows: Sequence[Any], **kept: Any) -> str | None:
    """The address of what comes after these rows, if they fill a page."""
    if len(rows) < ROWS:
        return None
    microseconds = (rows[-1].at - EPOCH) // timedelta(microseconds=1)
    return f"{place}?{urlencode({**kept, 'after': f'{microseconds}-{rows[-1].queue_id}'})}"


def _after() -> tuple[datetime, int] | None:
    """The row that a page begins behind: its instant, and its id in the queue."""
    given = request().query.get("after")
    if given is None:
        return None
    found = re.fullmatch("([0-9]{1,17})-([0-9]{1,18})", given)
    if not found:
        raise forms.InvalidForm("There is no such place in a list.")
    return EPOCH + timedelta(microseconds=int(found[1])), int(found[2])


def _before() -> int:
    given = request().query.get("before", "")
    return int(given) if re.fullmatch("[0-9]{1,18}", given) else LAST_ID

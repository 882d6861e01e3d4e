"""Every address of the console.

A GET shows a page and changes nothing. Actions and searches are forms that are posted to /do/..., so that no URL
contains a number, a key or a SID. Pages show masked numbers and no texts; the form `show` shows those of one message,
and is recorded like every other action.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from aws_lambda_powertools.event_handler import Response

from sms_retry import health, operate
from sms_retry.console import actions, fields, plots, sign_in_pages, view
from sms_retry.console.figures import headline, tiles
from sms_retry.console.sign_in import Access
from sms_retry.console.story import story
from sms_retry.console.web import Page, Request, app, go, no_page, page, request
from sms_retry.readings import CurrentHold, ListedMessage, MessageDetails, NumberAndText
from sms_retry.store import Store

ROWS = 50
MONTH, DIMENSIONS, LONGEST_REPORT = timedelta(days=29), ("country", "business", "sender", "kind", "code"), 200
EPOCH, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
LAST_ID = 2**63 - 1

app.include_router(sign_in_pages.router)


def answer(event: Mapping[str, Any], context: Any, store: Store, access: Access) -> dict[str, Any]:
    """The response to an event of the HTTP API (payload 2.0)."""
    app.context["request"] = Request(store, access, datetime.now(UTC), event.get("queryStringParameters") or {})
    return app.resolve(event, context)


@app.get("/")
def overview() -> Page:
    store = request().store
    found, last_day, holds = health.check(store), store.last_day(), store.current_holds()
    stuck = store.stuck(3)
    return page(
        "overview.html",
        here="/",
        headline=headline(found, holds),
        tiles=tiles(found),
        day=plots.day(last_day, request().now),
        codes=plots.codes(last_day),
        reasons=store.waiting_for(),
        holds=holds,
        stuck=stuck,
        senders=_senders(stuck),
        why=_why(holds),
    )


@app.get("/waiting")
def waiting() -> Page:
    rows = request().store.waiting(*(_after() or (EPOCH, 0)), ROWS)
    return page("waiting.html", here="/waiting", rows=rows, further=_further("/waiting", rows))


@app.get("/stuck")
def stuck() -> Page:
    store = request().store
    rows = store.stuck(ROWS)
    why = _why(store.current_holds())
    return page("stuck.html", here="/stuck", rows=rows, senders=_senders(rows), why=why)


@app.get("/ended")
def ended() -> Page:
    store, query = request().store, request().query
    how, code = query.get("how", "failed"), fields.code(query.get("code"))
    since = fields.instant(query.get("since")) or (request().now - timedelta(days=1)).replace(second=0, microsecond=0)
    if how not in plots.ENDINGS:
        raise fields.InvalidField("Choose failed, cancelled, expired, unknown or sent.")
    rows = store.ended(how, code, since, *(_after() or (LAST, LAST_ID)), ROWS)
    return page(
        "ended.html",
        here="/ended",
        how=how,
        code=code,
        since=since,
        failed=store.failed_since(code, since).failed if code and how == "failed" else 0,
        rows=rows,
        further=_further("/ended", rows, how=how, code=code or "", since=since.strftime("%Y-%m-%dT%H:%M")),
    )


@app.get("/holds")
def holds() -> Page:
    return page("holds.html", here="/holds", holds=request().store.current_holds(), handle=actions.handle)


@app.get("/senders")
def senders() -> Page:
    return page("senders.html", here="/senders", senders=request().store.senders())


@app.get("/usage")
def usage() -> Page:
    store, by = request().store, request().query.get("by", "country")
    if by not in DIMENSIONS:
        raise fields.InvalidField("Choose business, sender, country, kind or code.")
    return page(
        "usage.html",
        here="/usage",
        by=by,
        dimensions=DIMENSIONS,
        month=plots.month(store.usage("day", MONTH), request().now),
        rows=store.usage(by, MONTH)[:LONGEST_REPORT],
        most=LONGEST_REPORT,
    )


@app.get("/budgets")
def budgets() -> Page:
    return page("budgets.html", here="/budgets", budgets=request().store.budgets())


@app.get("/people")
def people() -> Page:
    return page("people.html", here="/people")


@app.get("/actions")
def recorded_actions() -> Page:
    rows = request().store.recorded_actions(None, _before(), ROWS)
    return page("actions.html", here="/actions", rows=rows, further=len(rows) == ROWS and f"?before={rows[-1].id}")


@app.get("/messages/<message_id>")
def message(message_id: str) -> Page:
    return _message(fields.message_id(request().store, message_id))


@app.get("/messages/<message_id>/person")
def person(message_id: str) -> Page:
    store = request().store
    id = fields.message_id(store, message_id)
    rows = store.to_same_person(id, _before(), ROWS)
    return page(
        "person.html",
        here="",
        message=_details(id),
        consents=store.consents_of(id),
        rows=rows,
        further=len(rows) == ROWS and f"?before={rows[-1].message_id}",
    )


@app.get("/messages/<message_id>/batch")
def batch(message_id: str) -> Page:
    store, name = request().store, fields.batch_of(request().store, message_id)
    rows = store.of_batch(name, _before(), ROWS)
    return page(
        "batch.html",
        here="",
        message_id=message_id,
        batch=name,
        counts=store.batch(name),
        holds=[hold for hold in store.current_holds() if (hold.scope, hold.key) == ("batch", name)],
        handle=actions.handle,
        rows=rows,
        further=len(rows) == ROWS and f"?before={rows[-1].message_id}",
    )


@app.get("/style.css")
def style() -> Page:
    forever = {"cache-control": "private, max-age=31536000, immutable"}
    return Response(200, "text/css; charset=utf-8", view.STYLE, forever, compress=True)


@app.post("/do/search")
def search() -> Page:
    asked, word = request(), request().fields.get("word", "")
    if not 1 <= len(word) <= 255:
        raise fields.InvalidField("Search for an id, a key, a batch, a number or a SID.")
    rows = operate.search(asked.store, asked.actor, word, fields.number_in(word))
    found = {row.message_id: row.found_by for row in rows}
    if len(found) == 1:
        [(id, by)] = found.items()
        return go(f"/messages/{id}" + {"number": "/person", "batch": "/batch"}.get(by, ""))
    return page("found.html", here="", rows=asked.store.listed(list(found)))


@app.post("/do/show")
def show() -> Page:
    asked = request()
    id = fields.message_id(asked.store, asked.fields.get("message_id", ""))
    return _message(id, asked.store.show(id, asked.actor))


@app.post("/do/<form>")
def do(form: str) -> Page:
    if form not in actions.FORMS:
        return no_page()
    asked = request()
    match actions.FORMS[form](asked.store, asked.actor, asked.fields):
        case actions.Done() as done:
            return go(done.page, done.text)
        case actions.Question() as question:
            again = {**asked.fields, "again": "yes"}
            del again["token"]
            return page("confirm.html", here="", form=form, fields=again, **asdict(question))


def _message(id: int, shown: NumberAndText | None = None) -> Page:
    store, details = request().store, _details(id)
    done = store.recorded_actions(f"message {id}", LAST_ID, ROWS)
    events = story(store.message_story(id), done, details, request().now)
    return page(
        "message.html",
        here="",
        message=details,
        origin=store.message_origin(id),
        parts=store.message_parts(id),
        story=events,
        shown=shown,
        can=actions.possible(details),
    )


def _details(id: int) -> MessageDetails:
    details = request().store.message_details(id)
    if details is None:
        raise fields.NoSuchMessage
    return details


def _senders(rows: Sequence[ListedMessage]) -> dict[int, str]:
    return request().store.senders_of([row.message_id for row in rows])


def _why(holds: Sequence[CurrentHold]) -> Callable[[ListedMessage], str]:
    on_hold = any(hold.scope in ("account", "sender") and hold.key == "*" for hold in holds)
    return lambda row: view.why(row, request().now, on_hold)


def _further(place: str, rows: Sequence[ListedMessage], **kept: Any) -> str | None:
    """The address of the next page, if these rows fill one."""
    if len(rows) < ROWS:
        return None
    microseconds = (rows[-1].at - EPOCH) // timedelta(microseconds=1)
    return f"{place}?{urlencode({**kept, 'after': f'{microseconds}-{rows[-1].queue_id}'})}"


def _after() -> tuple[datetime, int] | None:
    """The last row of the page before: its instant and its queue id."""
    given = request().query.get("after")
    if given is None:
        return None
    found = re.fullmatch("([0-9]{1,17})-([0-9]{1,18})", given)
    if not found:
        raise fields.InvalidField("This page of the list does not exist.")
    return EPOCH + timedelta(microseconds=int(found[1])), int(found[2])


def _before() -> int:
    given = request().query.get("before", "")
    return int(given) if re.fullmatch("[0-9]{1,18}", given) else LAST_ID

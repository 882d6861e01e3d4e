"""Twilio's Messages API over HTTP on one machine. It keeps every message, and fails as planned.

From Python, `with TwilioStandIn() as twilio:` runs it in a thread. `python -m local.twilio` runs it alone.
Another process uses `POST /stand-in/plan`, `GET /stand-in/accepted` and `POST /stand-in/reset`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from typing import Any, Literal, Self
from urllib.parse import parse_qsl

from aiohttp import web

from local.twilio import senders
from local.twilio.account import ACCOUNT_SID, AUTH_TOKEN, Account, Callback, Post
from local.twilio.messages import PARAMETERS, Message, error, fault, page, resource
from local.twilio.plan import (
    Accept,
    BadAnswer,
    Behaviour,
    Callbacks,
    Hang,
    Refuse,
    Reset,
    Step,
    always,
    mix,
    read_behaviour,
    read_step,
)

__all__ = [
    "ACCOUNT_SID",
    "AUTH_TOKEN",
    "Accept",
    "BadAnswer",
    "Behaviour",
    "Callback",
    "Callbacks",
    "Hang",
    "Post",
    "Refuse",
    "Reset",
    "Step",
    "TwilioStandIn",
    "always",
    "mix",
]


class TwilioStandIn(Account):
    """An Account over HTTP. It accepts the account SID with its token and, if given, `api_key` (SID, secret).

    With `callbacks="live"` it posts status callbacks when they are due; with `"manual"` only
    `deliver_callbacks()` does. `senders` has its numbers and services. Port 0 takes any free port. Between `close()`
    and the next `start()` connections to its port are refused; its messages stay.
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        account_sid: str = ACCOUNT_SID,
        auth_token: str = AUTH_TOKEN,
        api_key: tuple[str, str] | None = None,
        callbacks: Literal["live", "manual"] = "live",
        route: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(behaviour, account_sid=account_sid, auth_token=auth_token, route=route)
        self.port = port
        self._logins = {_basic(*login) for login in ((account_sid, auth_token), api_key) if login}
        self._keys = {_basic(*api_key)} if api_key else set()
        self.senders = senders.Senders()
        self._live = callbacks == "live"
        self._concurrent = 0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """OSError when the port is taken."""
        listening = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listening.getsockname()[1]
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._posters = [ThreadPoolExecutor(1, f"callbacks-{n}") for n in range(8)]
        self._thread = threading.Thread(target=self._run, args=(listening,), name="twilio", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop at once: requests that hang are dropped, and callbacks that are not posted yet never are."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        for poster in self._posters:
            poster.shutdown(cancel_futures=True)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def let_time_pass(self, seconds: float) -> None:
        super().let_time_pass(seconds)
        if self._live:
            self._loop.call_soon_threadsafe(self._post_due)

    def _run(self, listening: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(listening))

    async def _serve(self, listening: socket.socket) -> None:
        messages = "/2010-04-01/Accounts/{account}/Messages"
        app = web.Application(middlewares=[self._count])
        app.add_routes(
            [
                web.post(f"{messages}.json", self._create),
                web.get(f"{messages}.json", self._list),
                web.get(f"{messages}/{{sid}}.json", self._message),
                web.post(f"{messages}/{{sid}}.json", self._message),
                web.delete(f"{messages}/{{sid}}.json", self._message),
                *senders.routes(self.senders, self.account_sid, self._denied, self._denied_with_a_key),
                web.post("/stand-in/plan", self._take_plan),
                web.get("/stand-in/accepted", self._show_accepted),
                web.post("/stand-in/reset", self._take_reset),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> Any:
        self._concurrent += 1
        try:
            return await handler(request)
        finally:
            self._concurrent -= 1

    async def _create(self, request: web.Request) -> web.Response:
        form = await _form(request)
        known = {name: value for name, value in form.items() if name in PARAMETERS}
        step = self._denial(request) or fault(known) or self._next_step(known["To"])
        if _acceptance(step) and self._refuses(known):
            step = _refused(step)
        accept = _acceptance(step)
        if isinstance(step, Refuse):
            self._list_refusal(known, step)
        message = self._accept(known, accept) if accept else None
        self._record(form, step, message.sid if message else None)
        created = self._answer(201, resource(message, self.account_sid, known.get("Body", ""))) if message else None
        if message and self._live:
            self._post_when_due()
        await asyncio.sleep(self.behaviour.hang if isinstance(step, Hang) else self.behaviour.latency)
        match step:
            case Accept() if created:
                return created
            case Refuse():
                return self._refuse(step, known.get("To", ""))
            case BadAnswer(http_status, body):
                return _bad_answer(http_status, body)
            case _:
                return _drop(request, reset=isinstance(step, Reset))

    async def _list(self, request: web.Request) -> web.Response:
        if denial := self._denial(request):
            return self._refuse(denial)
        try:
            return self._answer(200, page(self._listed(), request.query, self.account_sid))
        except ValueError:
            return self._refuse(Refuse(400, 20001))

    async def _message(self, request: web.Request) -> web.Response:
        if denial := self._denial(request):
            return self._refuse(denial)
        message = self._messages.get(request.match_info["sid"])
        if message is None:
            return self._refuse(Refuse(404, 20404))
        if request.method == "DELETE":
            del self._messages[message.sid]
            return web.Response(status=204)
        if request.method == "POST" and (wrong := _update(message, await _form(request))):
            return self._refuse(wrong)
        return self._answer(200, resource(message, self.account_sid))

    async def _take_plan(self, request: web.Request) -> web.Response:
        """Takes `{"to", "steps"}` for one number, any field of the Behaviour, and `"let_time_pass"` in seconds."""
        try:
            data = await request.json()
            to, steps = data.pop("to", ""), [read_step(step) for step in data.pop("steps", ())]
            seconds = float(data.pop("let_time_pass", 0))
            self.behave(**read_behaviour(data))
        except (ValueError, TypeError, KeyError) as wrong:
            return web.json_response({"error": str(wrong)}, status=400)
        if to:
            self.plan(to, *steps)
        self.let_time_pass(seconds)
        return web.json_response({})

    async def _show_accepted(self, request: web.Request) -> web.Response:
        accepted = [
            {
                "at": post.at,
                "to": post.to,
                "body": post.form.get("Body"),
                "sid": post.sid,
                "ticket": post.ticket,
            }
            for post in self.accepted()
        ]
        return web.json_response({"posts": len(self.posts()), "accepted": accepted})

    async def _take_reset(self, request: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})

    def _denial(self, request: web.Request) -> Refuse | None:
        """The refusal of any request during an outage or with a wrong login; None otherwise."""
        if self.behaviour.down:
            return Refuse(503, 20503)
        known = request.headers.get("Authorization") in self._logins
        ours = request.match_info.get("account", self.account_sid) == self.account_sid
        return None if known and ours else Refuse(401, 20003)

    def _denied(self, request: web.Request) -> web.Response | None:
        denial = self._denial(request)
        return self._refuse(denial) if denial else None

    def _denied_with_a_key(self, request: web.Request) -> web.Response | None:
        is_key = request.headers.get("Authorization") in self._keys
        return self._refuse(Refuse(401, 20003)) if is_key else self._denied(request)

    def _refuse(self, refuse: Refuse, to: str = "") -> web.Response:
        answer = self._answer(refuse.http_status, error(refuse.http_status, refuse.code, to))
        if refuse.retry_after is not None:
            answer.headers["Retry-After"] = str(refuse.retry_after)
        return answer

    def _answer(self, http_status: int, data: dict[str, Any]) -> web.Response:
        headers = {
            "Content-Type": "application/json;charset=utf-8",
            "Date": formatdate(time.time() + self.behaviour.clock_ahead, usegmt=True),
            "Twilio-Request-Id": f"RQ{uuid.uuid4().hex}",
            "Twilio-Concurrent-Requests": str(self._concurrent),
        }
        return web.Response(status=http_status, body=json.dumps(data).encode(), headers=headers)

    def _post_when_due(self) -> None:
        due = self._next_due()
        if self._timer:
            self._timer.cancel()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()) + 0.001, self._post_due)

    def _post_due(self) -> None:
        """One thread posts all callbacks of a message, so that they stay in order."""
        for message, due in self._take_due():
            poster = self._posters[hash(message.sid) % len(self._posters)]
            self._loop.run_in_executor(poster, self._post, [(message, due)])
        self._post_when_due()


async def _form(request: web.Request) -> dict[str, str]:
    """Empty if the body is not a form, as at Twilio. The values of a repeated field are joined by line ends."""
    if request.content_type != "application/x-www-form-urlencoded":
        return {}
    known: dict[str, str] = {}
    for name, value in parse_qsl((await request.read()).decode(), keep_blank_values=True):
        known[name] = f"{known[name]}\n{value}" if name in known else value
    return known


def _acceptance(step: Step) -> Accept | None:
    match step:
        case Accept():
            return step
        case Hang(accepted) | Reset(accepted) | BadAnswer(accepted=accepted):
            return accepted
        case Refuse():
            return None


def _refused(step: Step) -> Step:
    """The step of a POST that the queue of its sender does not take; an answer that is lost stays lost."""
    match step:
        case Hang() | Reset() | BadAnswer():
            return replace(step, accepted=None)
        case _:
            return Refuse(400, 21611)


def _update(message: Message, form: Mapping[str, str]) -> Refuse | None:
    """Redact the body or cancel the message."""
    match dict(form):
        case {"Body": "", **others} if "Status" not in others:
            message.body = ""
        case {"Status": "canceled", **others} if "Body" not in others:
            if message.status not in ("accepted", "queued", "scheduled"):
                return Refuse(409, 30409)
            message.status, message.updated = "canceled", time.time()
        case _:
            return Refuse(400, 30400)
    return None


def _bad_answer(http_status: int, body: str | None) -> web.Response:
    if body is None and http_status == 500:
        body = json.dumps(error(500, 20500))
    elif body is None:
        body = "" if http_status < 300 else f"<html><body><h1>{http_status}</h1></body></html>"
    content_type = {"<": "text/html", "{": "application/json"}.get(body[:1], "text/plain")
    return web.Response(status=http_status, text=body, content_type=content_type)


def _drop(request: web.Request, *, reset: bool) -> web.Response:
    """Close the connection without an answer. SO_LINGER with zero seconds turns the close into a reset."""
    if (transport := request.transport) is not None:
        if reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

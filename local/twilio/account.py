"""The stand-in's memory: what it is told, what it took, what has yet to leave. It knows no server."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

from local.twilio.callbacks import Answer, post_callback
from local.twilio.messages import POOL_NUMBER, Message
from local.twilio.plan import Accept, Behaviour, Departure, Step, departures

ACCOUNT_SID = "AC" + "a" * 32
AUTH_TOKEN = "stand-in-auth-token"


@dataclass(frozen=True, slots=True)
class Post:
    """One POST to Messages.json: when (epoch seconds), its whole form, its ticket, what became of it."""

    at: float
    to: str
    form: Mapping[str, str]
    ticket: str | None
    step: Step
    sid: str | None

    @property
    def accepted(self) -> bool:
        return self.sid is not None


@dataclass(frozen=True, slots=True)
class Callback:
    """One status callback that was posted, and what came of each try: an HTTP status, `ct` or `rt`."""

    url: str
    params: Mapping[str, str]
    answers: tuple[Answer, ...]


class Account:
    """`route` says where a public origin lives: `{"https://sms.example.com": "http://127.0.0.1:8080"}`."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        account_sid: str = ACCOUNT_SID,
        auth_token: str = AUTH_TOKEN,
        route: Mapping[str, str] | None = None,
    ) -> None:
        self.account_sid, self.auth_token = account_sid, auth_token
        self.route = dict(route or {})
        self.behaviour = self._at_first = behaviour or Behaviour()
        self._lock = threading.Lock()
        self._turn = itertools.count()
        self._under_way = 0
        self.reset()

    def plan(self, to: str, *steps: Step) -> None:
        """What becomes of the next POSTs to this number, one by one; then the weather decides again."""
        self._plans[to] = deque(steps)

    def behave(self, **changes: Any) -> None:
        """Change fields of the Behaviour: `behave(down=True)`, `behave(latency=0.1)`."""
        self.behaviour = replace(self.behaviour, **changes)

    def reset(self) -> None:
        """Forget every message, plan and callback, and behave as at the start."""
        self.behaviour = self._at_first
        self._plans: dict[str, deque[Step]] = {}
        self._posts_to: Counter[str] = Counter()
        self._posts: list[Post] = []
        self._messages: dict[str, Message] = {}
        self._callbacks: list[Callback] = []
        with self._lock:
            self._leaving: list[tuple[float, int, Message, Departure]] = []

    def let_time_pass(self, seconds: float) -> None:
        """Everything it knows becomes older by that much: lists catch up, late callbacks fall due."""
        with self._lock:
            self._leaving = [
                (due - seconds, turn, message, departure) for due, turn, message, departure in self._leaving
            ]
        for message in list(self._messages.values()):
            message.created -= seconds
            message.updated -= seconds
            message.listed_from -= seconds
            if message.sent is not None:
                message.sent -= seconds

    def deliver_callbacks(self) -> tuple[Callback, ...]:
        """Post every callback that is due, one after the other, and return when all have been answered."""
        delivered: list[Callback] = []
        while due := self._take_due():
            delivered += self._depart(due)
        return tuple(delivered)

    def call_back(self, sid: str, status: str, error_code: int | None = None) -> Callback:
        """One more receipt for a message, posted now. KeyError: unknown; ValueError: no StatusCallback."""
        message = self._messages[sid]
        callback = self._happen(message, Departure(0, message.reached + 1, status, error_code, posted=True))
        if callback is None:
            raise ValueError(f"{sid} was sent without a StatusCallback")
        return callback

    def posts(self) -> tuple[Post, ...]:
        return tuple(self._posts)

    def accepted(self) -> tuple[Post, ...]:
        return tuple(post for post in self.posts() if post.accepted)

    def times_accepted(self) -> Counter[tuple[str, str]]:
        """How often each (To, Body) was accepted."""
        return Counter((post.to, post.form.get("Body", "")) for post in self.accepted())

    def status(self, sid: str) -> str:
        """What Twilio itself holds to be the message's status; KeyError when unknown."""
        return self._messages[sid].status

    def callbacks(self) -> tuple[Callback, ...]:
        return tuple(self._callbacks)

    def outstanding(self) -> int:
        """How many receipts have yet to leave or to be answered."""
        with self._lock:
            return len(self._leaving) + self._under_way

    def _next_step(self, to: str) -> Step:
        self._posts_to[to] += 1
        steps = self._plans.get(to)
        return steps.popleft() if steps else self.behaviour.weather(to, self._posts_to[to])

    def _take(self, form: Mapping[str, str], accept: Accept) -> Message:
        """Twilio has the message from here on, whatever the client comes to hear."""
        now, service = time.time(), form.get("MessagingServiceSid") or None
        lag = self.behaviour.list_lag if accept.list_lag is None else accept.list_lag
        message = Message(
            sid=f"SM{uuid.uuid4().hex}",
            to=form["To"],
            sender=form.get("From") or None,
            service=service,
            body=form.get("Body", ""),
            status_callback=form.get("StatusCallback") or None,
            status="accepted" if service else "queued",
            created=now,
            updated=now,
            listed_from=now + lag,
        )
        self._messages[message.sid] = message
        dice = Random(f"{self.behaviour.seed} {message.to} {self._posts_to[message.to]}")
        answered = time.monotonic() + self.behaviour.latency
        with self._lock:
            for departure in departures(accept.receipts, accept.callbacks or self.behaviour.callbacks, dice):
                leaving = (answered + departure.after, next(self._turn), message, departure)
                heapq.heappush(self._leaving, leaving)
        return message

    def _remember(self, form: Mapping[str, str], step: Step, sid: str | None) -> None:
        query = urlsplit(form.get("StatusCallback", "")).query
        ticket = parse_qs(query).get("t", [None])[0]
        self._posts.append(Post(time.time(), form.get("To", ""), form, ticket, step, sid))

    def _visible(self) -> list[Message]:
        now = time.time()
        return [message for message in reversed(self._messages.values()) if message.listed_from <= now]

    def _next_due(self) -> float | None:
        with self._lock:
            return self._leaving[0][0] if self._leaving else None

    def _take_due(self) -> list[tuple[Message, Departure]]:
        due = []
        with self._lock:
            while self._leaving and self._leaving[0][0] <= time.monotonic():
                due.append(heapq.heappop(self._leaving)[2:])
            self._under_way += len(due)
        return due

    def _depart(self, due: list[tuple[Message, Departure]]) -> list[Callback]:
        callbacks = []
        for message, departure in due:
            try:
                callback = self._happen(message, departure)
            finally:
                with self._lock:
                    self._under_way -= 1
            if callback is not None:
                callbacks.append(callback)
        return callbacks

    def _happen(self, message: Message, departure: Departure) -> Callback | None:
        """The message moves on, never back; its callback says what it says, whenever it arrives."""
        if message.status == "canceled":
            return None
        if departure.place > message.reached:
            message.reached, message.updated = departure.place, time.time()
            message.status, message.error_code = departure.status, departure.error_code
            message.sender = message.sender or POOL_NUMBER
            if message.sent is None and departure.status in ("sent", "delivered", "undelivered"):
                message.sent = message.updated
        if message.status_callback is None or not departure.posted:
            return None
        params = _params(message, departure, self.account_sid)
        answers = post_callback(message.status_callback, params, self.auth_token, self.route)
        callback = Callback(message.status_callback, params, answers)
        self._callbacks.append(callback)
        return callback


def _params(message: Message, departure: Departure, account_sid: str) -> dict[str, str]:
    params = {
        "AccountSid": account_sid,
        "ApiVersion": "2010-04-01",
        "From": message.sender or POOL_NUMBER,
        "MessageSid": message.sid,
        "MessageStatus": departure.status,
        "SmsSid": message.sid,
        "SmsStatus": departure.status,
        "To": message.to,
    }
    if message.service:
        params["MessagingServiceSid"] = message.service
    if departure.error_code is not None:
        params["ErrorCode"] = str(departure.error_code)
    if departure.status in ("delivered", "undelivered"):
        params["RawDlrDoneDate"] = time.strftime("%y%m%d%H%M", time.gmtime(message.updated))
    return params

"""The state of the Twilio stand-in, without its server: plans, accepted messages, and receipts that are due."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

from local.twilio.callbacks import Answer, post_callback
from local.twilio.messages import POOL_NUMBER, Message, segments, text_of
from local.twilio.plan import Accept, Behaviour, Due, Receipt, Refuse, Step, due_receipts
from local.twilio.queues import Expires, Full, Leaves, Queues, Rate
from local.twilio.rewriting import Rewriting

ACCOUNT_SID = "AC" + "a" * 32
AUTH_TOKEN = "stand-in-auth-token"


@dataclass(frozen=True, slots=True)
class Post:
    """One POST to Messages.json: its time (epoch seconds), form, ticket and step, and the SID if it was accepted."""

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
    """One status callback that was posted, and the result of each try: an HTTP status, `ct` or `rt`."""

    url: str
    params: Mapping[str, str]
    answers: tuple[Answer, ...]


class Account:
    """`route` maps a public origin to its local one: `{"https://sms.example.com": "http://127.0.0.1:8080"}`."""

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
        self.behaviour = self._initial = behaviour or Behaviour()
        self._lock = threading.Lock()
        self._turn = itertools.count()
        self._in_flight = 0
        self.reset()

    def plan(self, to: str, *steps: Step) -> None:
        """The steps of the next POSTs to this number, one by one; after them the default of the Behaviour applies."""
        self._plans[to] = deque(steps)

    def behave(self, **changes: Any) -> None:
        """Change fields of the Behaviour: `behave(down=True)`, `behave(latency=0.1)`."""
        self.behaviour = replace(self.behaviour, **changes)

    def reset(self) -> None:
        """Remove every message, plan and callback, and restore the initial Behaviour."""
        self.behaviour = self._initial
        self._plans: dict[str, deque[Step]] = {}
        self._posts_to: Counter[str] = Counter()
        self._posts: list[Post] = []
        self._messages: dict[str, Message] = {}
        self._queues = Queues()
        self._callbacks: list[Callback] = []
        with self._lock:
            self._due: list[tuple[float, int, Message, Due]] = []

    def let_time_pass(self, seconds: float) -> None:
        """Every message becomes older by that much: the list catches up, late callbacks become due."""
        with self._lock:
            self._due = [(at - seconds, turn, message, due) for at, turn, message, due in self._due]
            self._queues.let_time_pass(seconds)
        for message in list(self._messages.values()):
            message.created -= seconds
            message.updated -= seconds
            message.listed_from -= seconds
            if message.sent is not None:
                message.sent -= seconds

    def backlog(self, sender: str) -> float:
        """The seconds until all messages of a sender with a rate have left its queue."""
        return self._queues.backlog(sender, time.monotonic())

    def deliver_callbacks(self) -> tuple[Callback, ...]:
        """Post every callback that is due, one after the other, and return when all have been answered."""
        delivered: list[Callback] = []
        while due := self._take_due():
            delivered += self._post(due)
        return tuple(delivered)

    def call_back(self, sid: str, status: str, error_code: int | None = None) -> Callback:
        """Post one more receipt for a message now. KeyError: unknown SID; ValueError: no StatusCallback."""
        message = self._messages[sid]
        callback = self._apply(message, Due(0, message.reached + 1, status, error_code, posted=True))
        if callback is None:
            raise ValueError(f"{sid} was sent without a StatusCallback")
        return callback

    def reply(self, url: str, sender: str, to: str, body: str, **fields: str) -> tuple[Answer, ...]:
        """Post an inbound message from a person, `sender`, and return the result of each try."""
        address = self.behaviour.rewriting.address
        params = {"AccountSid": self.account_sid, "From": address(sender), "To": address(to), "Body": body}
        return post_callback(url, params | fields, self.auth_token, self.route)

    def forget(self, before: float) -> None:
        """Remove the records of POSTs and messages from before that time (epoch seconds), and of all callbacks.

        Call it while no request is open.
        """
        self._posts = [post for post in self._posts if post.at >= before]
        self._messages = {sid: each for sid, each in self._messages.items() if each.created >= before}
        self._callbacks.clear()

    def posts(self) -> tuple[Post, ...]:
        return tuple(self._posts)

    def accepted(self) -> tuple[Post, ...]:
        return tuple(post for post in self.posts() if post.accepted)

    def times_accepted(self) -> Counter[tuple[str, str]]:
        """How often each (To, Body) was accepted."""
        return Counter((post.to, post.form.get("Body", "")) for post in self.accepted())

    def status(self, sid: str) -> str:
        """The message's status at Twilio. KeyError: unknown SID."""
        return self._messages[sid].status

    def callbacks(self) -> tuple[Callback, ...]:
        return tuple(self._callbacks)

    def outstanding(self) -> int:
        """The number of receipts that are not posted or not answered yet."""
        with self._lock:
            return len(self._due) + self._in_flight

    def _next_step(self, to: str) -> Step:
        self._posts_to[to] += 1
        steps = self._plans.get(to)
        return steps.popleft() if steps else self.behaviour.default(to, self._posts_to[to])

    def _refuses(self, form: Mapping[str, str]) -> bool:
        """Whether the queue of the number in From is full. A full Messaging Service accepts, and reports 30001."""
        return bool(form.get("From")) and isinstance(self._fate(form, self._queues.look), Full)

    def _fate(self, form: Mapping[str, str], ask: Callable[..., Leaves | Expires | Full]) -> Leaves | Expires | Full:
        sender = form.get("From") or form.get("MessagingServiceSid") or ""
        rate: Rate | None = self.behaviour.rates.get(sender) or self.behaviour.rates.get("*")
        if rate is None:
            return Leaves(0.0)
        size = segments(self.behaviour.rewriting.encoded(form.get("Body", "")))
        return ask(sender, rate, size, float(form.get("ValidityPeriod", 36000)), time.monotonic())

    def _accept(self, form: Mapping[str, str], accept: Accept) -> Message:
        """From here on Twilio has the message, even if the client gets no answer."""
        service = form.get("MessagingServiceSid") or None
        message = self._keep(form, "accepted" if service else "queued", accept.list_lag)
        receipts: tuple[Receipt, ...] = accept.receipts
        match self._fate(form, self._queues.join):
            case Leaves(after):
                wait = after
            case Expires(after):
                wait, receipts = after, (("failed", 30036),)
            case Full():
                wait, receipts = 0.0, (("failed", 30001),)
        to = form["To"]
        rng = Random(f"{self.behaviour.seed} {to} {self._posts_to[to]}")
        leaves = time.monotonic() + self.behaviour.latency + wait
        with self._lock:
            for due in due_receipts(receipts, accept.callbacks or self.behaviour.callbacks, rng):
                heapq.heappush(self._due, (leaves + due.after, next(self._turn), message, due))
        return message

    def _list_refusal(self, form: Mapping[str, str], refuse: Refuse) -> None:
        if self.behaviour.lists_refusals and refuse.http_status == 400 and form.get("To"):
            self._keep(form, "failed", None).error_code = refuse.code

    def _keep(self, form: Mapping[str, str], status: str, list_lag: float | None) -> Message:
        """Keep Twilio's record of a POST."""
        now, rewriting, body = self._now(), self.behaviour.rewriting, text_of(form)
        sender = form.get("From") or None
        message = Message(
            sid=f"SM{uuid.uuid4().hex}",
            to=rewriting.to(form["To"]),
            sender=sender and rewriting.address(sender),
            service=form.get("MessagingServiceSid") or None,
            body=rewriting.body(body),
            media=len(form.get("MediaUrl", "").split()),
            status_callback=form.get("StatusCallback") or None,
            status=status,
            created=now,
            updated=now,
            segments=segments(rewriting.encoded(body)),
            listed_from=now + (self.behaviour.list_lag if list_lag is None else list_lag),
        )
        self._messages[message.sid] = message
        return message

    def _now(self) -> float:
        """The time of Twilio's clock."""
        return time.time() + self.behaviour.clock_ahead

    def _record(self, form: Mapping[str, str], step: Step, sid: str | None) -> None:
        query = urlsplit(form.get("StatusCallback", "")).query
        ticket = parse_qs(query).get("t", [None])[0]
        self._posts.append(Post(time.time(), form.get("To", ""), form, ticket, step, sid))

    def _listed(self) -> list[Message]:
        now = self._now()
        return [message for message in reversed(self._messages.values()) if message.listed_from <= now]

    def _next_due(self) -> float | None:
        with self._lock:
            return self._due[0][0] if self._due else None

    def _take_due(self) -> list[tuple[Message, Due]]:
        taken = []
        with self._lock:
            while self._due and self._due[0][0] <= time.monotonic():
                taken.append(heapq.heappop(self._due)[2:])
            self._in_flight += len(taken)
        return taken

    def _post(self, taken: list[tuple[Message, Due]]) -> list[Callback]:
        callbacks = []
        for message, due in taken:
            try:
                callback = self._apply(message, due)
            finally:
                with self._lock:
                    self._in_flight -= 1
            if callback is not None:
                callbacks.append(callback)
        return callbacks

    def _apply(self, message: Message, due: Due) -> Callback | None:
        """Post the receipt. The message takes its status only if the receipt is later in the true order."""
        if message.status == "canceled":
            return None
        if due.place > message.reached:
            message.reached, message.updated = due.place, self._now()
            message.status, message.error_code = due.status, due.error_code
            message.sender = message.sender or self.behaviour.rewriting.address(POOL_NUMBER)
            if message.sent is None and due.status in ("sent", "delivered", "undelivered"):
                message.sent = message.updated
        if message.status_callback is None or not due.posted:
            return None
        params = _params(message, due, self.account_sid, self.behaviour.rewriting)
        answers = post_callback(message.status_callback, params, self.auth_token, self.route)
        callback = Callback(message.status_callback, params, answers)
        self._callbacks.append(callback)
        return callback


def _params(message: Message, due: Due, account_sid: str, rewriting: Rewriting) -> dict[str, str]:
    params = {
        "AccountSid": account_sid,
        "ApiVersion": "2010-04-01",
        "From": message.sender or rewriting.address(POOL_NUMBER),
        "MessageSid": message.sid,
        "MessageStatus": due.status,
        "SmsSid": message.sid,
        "SmsStatus": due.status,
        "To": rewriting.address(message.to),
    }
    if message.service:
        params["MessagingServiceSid"] = message.service
    if due.error_code is not None:
        params["ErrorCode"] = str(due.error_code)
    if due.status in ("delivered", "undelivered"):
        params["RawDlrDoneDate"] = time.strftime("%y%m%d%H%M", time.gmtime(message.updated))
    return params

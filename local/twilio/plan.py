"""The instructions for the Twilio stand-in: values, given from Python or as JSON.

A *step* is the result of one POST. Steps that break the answer have `accepted`: the message that Twilio accepted all
the same. With `accepted=None` the client sees the same broken answer, but Twilio did not accept the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from local.twilio.queues import Rate
from local.twilio.rewriting import Rewriting

Receipt = str | tuple[str, int | None]
"""A status after the first one, with the error code of a failure: `"sent"`, `("undelivered", 30003)`."""

STATUSES = frozenset({"queued", "sending", "sent", "delivered", "undelivered", "failed", "read", "partially_delivered"})


def status_and_code(receipt: Receipt) -> tuple[str, int | None]:
    return (receipt, None) if isinstance(receipt, str) else receipt


@dataclass(frozen=True, slots=True)
class Callbacks:
    """How status callbacks are posted. Probabilities are from 0 to 1; `delay` and `late_by` are seconds.

    The nth receipt is posted n times `delay` after the answer. A late receipt is posted `late_by` after that, a lost
    receipt never, a repeated receipt a second time after all others. Out of order means last first.
    """

    delay: float = 0.0
    late: float = 0.0
    late_by: float = 3600.0
    lost: float = 0.0
    repeated: float = 0.0
    out_of_order: float = 0.0


@dataclass(frozen=True, slots=True)
class Accept:
    """201. `callbacks` and `list_lag` (seconds until the message is listed, `inf` for never) override those of the
    Behaviour. Failures that Twilio tells only by a receipt are receipts: `("undelivered", 30034)`.
    """

    receipts: tuple[Receipt, ...] = ("sent", "delivered")
    callbacks: Callbacks | None = None
    list_lag: float | None = None

    def __post_init__(self) -> None:
        receipts = tuple(r if isinstance(r, str) else (r[0], r[1]) for r in self.receipts)
        object.__setattr__(self, "receipts", receipts)
        for status, _ in map(status_and_code, receipts):
            if status not in STATUSES:
                raise ValueError(f"receipts: {status!r} is not a status of an outbound message")


@dataclass(frozen=True, slots=True)
class Refuse:
    """Twilio's own error JSON; `retry_after` in seconds becomes the header. The message is not accepted."""

    http_status: int
    code: int
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer for the behaviour's `hang` seconds, then the connection closes."""

    accepted: Accept | None = Accept()


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset before the answer."""

    accepted: Accept | None = Accept()


@dataclass(frozen=True, slots=True)
class BadAnswer:
    """An answer that cannot be trusted. Without `body`: 2xx is empty, 500 is Twilio's 20500, any other is HTML."""

    http_status: int
    body: str | None = None
    accepted: Accept | None = Accept()


Step = Accept | Refuse | Hang | Reset | BadAnswer
StepFor = Callable[[str, int], Step]
"""(To, number of the POST to that To, from 1) -> the step of that POST."""


def accept_all(to: str, nth: int) -> Step:
    return Accept()


def always(step: Step) -> StepFor:
    return lambda to, nth: step


def mix(seed: int, *shares: tuple[float, Step]) -> StepFor:
    """Each step has a share, any positive weight. The same POST always gets the same step."""
    weights = [weight for weight, _ in shares]
    steps = [step for _, step in shares]
    return lambda to, nth: Random(f"{seed} {to} {nth}").choices(steps, weights)[0]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the stand-in behaves. `default` gives the step of a POST that has no plan; times are seconds.

    `lists_refusals`: a POST that was refused with 400 is in the list as `failed`, under a SID that no answer had
    (https://help.twilio.com/articles/21923437804315). `rates` has the rate of each sender, by From or
    MessagingServiceSid, and under `*` that of all others; a sender without one has no queue. `clock_ahead` is the
    difference between Twilio's clock and ours, in its dates and in the header `Date`.
    """

    default: StepFor = accept_all
    callbacks: Callbacks = Callbacks()
    latency: float = 0.0
    list_lag: float = 0.0
    hang: float = 35.0
    down: bool = False
    seed: int = 0
    rewriting: Rewriting = field(default_factory=Rewriting)
    lists_refusals: bool = True
    rates: Mapping[str, Rate] = field(default_factory=dict)
    clock_ahead: float = 0.0


@dataclass(frozen=True, slots=True)
class Due:
    """One receipt: due `after` seconds, at `place` in the true order, and `posted` unless it is lost."""

    after: float
    place: int
    status: str
    error_code: int | None
    posted: bool


def due_receipts(receipts: tuple[Receipt, ...], callbacks: Callbacks, rng: Random) -> Iterator[Due]:
    """The receipts of one message, in the order in which they are posted."""
    places = list(range(len(receipts)))
    if rng.random() < callbacks.out_of_order:
        places.reverse()
    repeats = []
    for turn, place in enumerate(places, 1):
        late = rng.random() < callbacks.late
        after = turn * callbacks.delay + (callbacks.late_by if late else 0.0)
        status, code = status_and_code(receipts[place])
        yield Due(after, place, status, code, posted=rng.random() >= callbacks.lost)
        if rng.random() < callbacks.repeated:
            after = max(after, len(places) * callbacks.delay)
            repeats.append(Due(after, place, status, code, posted=True))
    yield from repeats


STEPS: dict[str, Callable[..., Step]] = {
    "accept": Accept,
    "refuse": Refuse,
    "hang": Hang,
    "reset": Reset,
    "bad_answer": BadAnswer,
}


def read_step(data: dict[str, Any]) -> Step:
    """A step from `{"step": "refuse", "http_status": 429, "code": 20429}`: the kind and its fields.

    Raises ValueError or TypeError with the name of the wrong field.
    """
    fields = dict(data)
    kind = fields.pop("step", None)
    if kind not in STEPS:
        raise ValueError(f"step: {kind!r} is not one of {', '.join(STEPS)}")
    if fields.get("accepted") is not None:
        fields["accepted"] = _read_accept(fields["accepted"])
    return _read_accept(fields) if kind == "accept" else STEPS[kind](**fields)


def read_behaviour(data: dict[str, Any]) -> dict[str, Any]:
    """Fields of a Behaviour; `default` is a step or `{"seed": 1, "shares": [[9, step], [1, step]]}`."""
    changes = dict(data)
    if "callbacks" in changes:
        changes["callbacks"] = Callbacks(**changes["callbacks"])
    if "rewriting" in changes:
        changes["rewriting"] = Rewriting(**changes["rewriting"])
    if "rates" in changes:
        changes["rates"] = {sender: Rate(**rate) for sender, rate in changes["rates"].items()}
    if "shares" in changes.get("default", {}):
        default = changes["default"]
        shares = [(weight, read_step(step)) for weight, step in default["shares"]]
        changes["default"] = mix(default.get("seed", 0), *shares)
    elif "default" in changes:
        changes["default"] = always(read_step(changes["default"]))
    return changes


def _read_accept(data: dict[str, Any]) -> Accept:
    callbacks = data.get("callbacks")
    return Accept(**{**data, "callbacks": Callbacks(**callbacks) if callbacks else None})

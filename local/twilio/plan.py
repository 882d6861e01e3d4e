"""What the Twilio stand-in is told to do: values, from Python or from JSON.

A *step* says what becomes of one POST. `accepted=None` on a step that breaks the answer is its harmless twin:
the client sees the same, but Twilio never took the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

Receipt = str | tuple[str, int | None]
"""A status after the first one, with the error code of a failure: `"sent"`, `("undelivered", 30003)`."""

STATUSES = frozenset({"queued", "sending", "sent", "delivered", "undelivered", "failed", "read", "partially_delivered"})


def status_and_code(receipt: Receipt) -> tuple[str, int | None]:
    return (receipt, None) if isinstance(receipt, str) else receipt


@dataclass(frozen=True, slots=True)
class Callbacks:
    """How status callbacks travel. Chances run from 0 to 1; `delay` and `late_by` are seconds.

    The nth receipt leaves n times `delay` after the answer. A late one goes `late_by` after its turn, a lost
    one never, a repeated one a second time after all others; out of order means last first.
    """

    delay: float = 0.0
    late: float = 0.0
    late_by: float = 3600.0
    lost: float = 0.0
    repeated: float = 0.0
    out_of_order: float = 0.0


@dataclass(frozen=True, slots=True)
class Accept:
    """201. `callbacks` and `list_lag` (seconds until it is listed), if given, win over the behaviour's."""

    receipts: tuple[Receipt, ...] = ("sent", "delivered")
    callbacks: Callbacks | None = None
    list_lag: float | None = None

    def __post_init__(self) -> None:
        receipts = tuple(r if isinstance(r, str) else (r[0], r[1]) for r in self.receipts)
        object.__setattr__(self, "receipts", receipts)
        for status, _ in map(status_and_code, receipts):
            if status not in STATUSES:
                raise ValueError(f"receipts: {status!r} is no status of a message on its way out")


@dataclass(frozen=True, slots=True)
class Refuse:
    """Twilio's own error JSON; `retry_after` in seconds becomes the header. The message is not taken."""

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
    """An answer that says nothing. Without `body`, 2xx is empty, 500 Twilio's 20500, others HTML."""

    http_status: int
    body: str | None = None
    accepted: Accept | None = Accept()


Step = Accept | Refuse | Hang | Reset | BadAnswer
Weather = Callable[[str, int], Step]
"""(To, which POST to that number, from 1) -> what becomes of it."""


def fair(to: str, nth: int) -> Step:
    return Accept()


def always(step: Step) -> Weather:
    return lambda to, nth: step


def mix(seed: int, *shares: tuple[float, Step]) -> Weather:
    """Each step has its share, any positive weight. The same POST always meets the same step."""
    weights = [weight for weight, _ in shares]
    steps = [step for _, step in shares]
    return lambda to, nth: Random(f"{seed} {to} {nth}").choices(steps, weights)[0]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What holds wherever no plan says otherwise. Seconds, except the seed."""

    weather: Weather = fair
    callbacks: Callbacks = Callbacks()
    latency: float = 0.0
    list_lag: float = 0.0
    hang: float = 35.0
    down: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Departure:
    """One receipt as it leaves: `after` seconds, `place` in the true order, not `posted` if it is lost."""

    after: float
    place: int
    status: str
    error_code: int | None
    posted: bool


def departures(receipts: tuple[Receipt, ...], callbacks: Callbacks, dice: Random) -> Iterator[Departure]:
    """The receipts of one message in the order in which they leave."""
    places = list(range(len(receipts)))
    if dice.random() < callbacks.out_of_order:
        places.reverse()
    repeats = []
    for turn, place in enumerate(places, 1):
        late = dice.random() < callbacks.late
        after = turn * callbacks.delay + (callbacks.late_by if late else 0.0)
        status, code = status_and_code(receipts[place])
        yield Departure(after, place, status, code, posted=dice.random() >= callbacks.lost)
        if dice.random() < callbacks.repeated:
            after = max(after, len(places) * callbacks.delay)
            repeats.append(Departure(after, place, status, code, posted=True))
    yield from repeats


STEPS: dict[str, Callable[..., Step]] = {
    "accept": Accept,
    "refuse": Refuse,
    "hang": Hang,
    "reset": Reset,
    "bad_answer": BadAnswer,
}


def read_step(data: dict[str, Any]) -> Step:
    """A step from `{"step": "refuse", "http_status": 429, "code": 20429}`, its kind and its fields.

    ValueError or TypeError says what is wrong with it.
    """
    fields = dict(data)
    kind = fields.pop("step", None)
    if kind not in STEPS:
        raise ValueError(f"step: {kind!r} is none of {', '.join(STEPS)}")
    if fields.get("accepted") is not None:
        fields["accepted"] = _read_accept(fields["accepted"])
    return _read_accept(fields) if kind == "accept" else STEPS[kind](**fields)


def read_behaviour(data: dict[str, Any]) -> dict[str, Any]:
    """Fields of a Behaviour; `weather` is a step or `{"seed": 1, "shares": [[9, step], [1, step]]}`."""
    changes = dict(data)
    if "callbacks" in changes:
        changes["callbacks"] = Callbacks(**changes["callbacks"])
    if "shares" in changes.get("weather", {}):
        weather = changes["weather"]
        shares = [(weight, read_step(step)) for weight, step in weather["shares"]]
        changes["weather"] = mix(weather.get("seed", 0), *shares)
    elif "weather" in changes:
        changes["weather"] = always(read_step(changes["weather"]))
    return changes


def _read_accept(data: dict[str, Any]) -> Accept:
    callbacks = data.get("callbacks")
    return Accept(**{**data, "callbacks": Callbacks(**callbacks) if callbacks else None})

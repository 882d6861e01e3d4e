"""The queue of each sender at Twilio: messages leave at the rate of the sender, and a full queue takes no more.

A queue has ten hours of messages. A full number refuses a POST with 21611, a full Messaging Service reports 30001. A
message that waited longer than its ValidityPeriod fails with 30036. https://help.twilio.com/articles/115002943027,
https://www.twilio.com/docs/api/errors/21611, https://www.twilio.com/docs/api/errors/30001,
https://www.twilio.com/docs/api/errors/30036
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """A sender hands over `per_second` segments (messages, if `by_message`) a second. `longest` is the time in seconds
    that its queue may take to drain.
    """

    per_second: float
    longest: float = 36_000.0
    by_message: bool = False

    def seconds(self, segments: int) -> float:
        return (1 if self.by_message else segments) / self.per_second


@dataclass(frozen=True, slots=True)
class Leaves:
    """The message leaves after so many seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class Expires:
    """The ValidityPeriod of the message ends before its turn, after so many seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class Full:
    """The queue does not take the message."""


class Queues:
    """The queues of all senders. A queue is the instant at which its last message has left (seconds of any clock)."""

    def __init__(self) -> None:
        self._empty_at: dict[str, float] = {}

    def backlog(self, sender: str, now: float) -> float:
        """The seconds until all messages of the sender have left."""
        return max(0.0, self._empty_at.get(sender, now) - now)

    def look(self, sender: str, rate: Rate, segments: int, valid_for: float, now: float) -> Leaves | Expires | Full:
        """The fate of a message, if it joined the queue now."""
        wait = self.backlog(sender, now)
        if wait + rate.seconds(segments) > rate.longest:
            return Full()
        return Expires(valid_for) if wait > valid_for else Leaves(wait)

    def join(self, sender: str, rate: Rate, segments: int, valid_for: float, now: float) -> Leaves | Expires | Full:
        """A message that leaves takes its time of the sender; one that expires takes none."""
        fate = self.look(sender, rate, segments, valid_for, now)
        if isinstance(fate, Leaves):
            self._empty_at[sender] = now + fate.after + rate.seconds(segments)
        return fate

    def let_time_pass(self, seconds: float) -> None:
        self._empty_at = {sender: at - seconds for sender, at in self._empty_at.items()}

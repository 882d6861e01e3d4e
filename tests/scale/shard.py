"""One shard of several: a deployment with its own database, which fails as a whole and returns. Without a database.

The rules are those of the queue: a higher rank goes first, then the older message; an `otp` expires; the messages that
a worker had claimed when the database failed are unknown, and are not sent again before 30 minutes. The entry repeats
each call until its own shard has answered, and asks no other shard: keys, consents and attempts are in its database.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.scale.day import OTP, RANKS

# Minutes after which an otp is of no use, and after which an unknown message that Twilio's list lacks is sent again.
OTP_EXPIRES, UNKNOWN_WAITS = 10, 30
# A failure finds this share of its minute's calls committed but not answered.
IN_DOUBT = 0.01
# Seconds of its rate that a shard has claimed and not yet finished. Twilio has accepted half of them.
CLAIMED = 0.3


class Failure(NamedTuple):
    """The minutes in which no statement reaches the shard's database: `start` is the first, `end` is after the last."""

    start: int
    end: int


class Messages(NamedTuple):
    """Messages with successive ids that were queued in one minute."""

    first: int
    count: int
    queued: int
    rank: int


class Ended(NamedTuple):
    """Messages that a shard has sent, or expired, in one minute."""

    messages: Messages
    minute: int
    is_sent: bool

    @property
    def late(self) -> int:
        return self.minute - self.messages.queued


@dataclass
class Shard:
    """`rate` is the most messages a minute that it carries through their whole lives."""

    rate: int
    failure: Failure | None = None
    ended: list[Ended] = field(default_factory=list)
    # After each minute, the messages that wait here and at the entry.
    backlog: list[int] = field(default_factory=list)
    _entry: deque[Messages] = field(default_factory=deque)
    _queue: tuple[deque[Messages], ...] = field(default_factory=lambda: tuple(deque() for _ in RANKS))
    _unknown: deque[Messages] = field(default_factory=deque)
    _given: int = 0
    _ended: int = 0
    _keys: set[int] = field(default_factory=set)

    def minute(self, now: int, new: Sequence[Messages]) -> None:
        """`new` are the messages that applications give to the entry in this minute."""
        if self.failure and now == self.failure.start:
            self._fail(now, new)
        else:
            self._entry.extend(new)
        if not self.failure or not self.failure.start <= now < self.failure.end:
            self._take_in()
            self._send(now)
        self._given += sum(each.count for each in new)
        self.backlog.append(self._given - self._ended)

    def _fail(self, now: int, new: Sequence[Messages]) -> None:
        for messages in new:
            stored, refused = _split(messages, int(messages.count * IN_DOUBT))
            self._store(stored)
            # The entry has no answer for either.
            self._entry.extend(each for each in (stored, refused) if each.count)
        claimed = self._claim(int(self.rate * CLAIMED / 60))
        for messages in claimed:
            accepted, open_ = _split(messages, messages.count // 2)
            self._end(accepted, now, True)
            if open_.count:
                self._unknown.append(open_)

    def _take_in(self) -> None:
        while self._entry:
            self._store(self._entry.popleft())

    def _store(self, messages: Messages) -> None:
        """A message_key that is known already is the same message."""
        if messages.count and messages.first not in self._keys:
            self._keys.add(messages.first)
            self._queue[messages.rank].append(messages)

    def _send(self, now: int) -> None:
        if self.failure and now >= self.failure.start + UNKNOWN_WAITS:
            while self._unknown:
                messages = self._unknown.popleft()
                self._queue[messages.rank].appendleft(messages)
        for messages in self._claim(self.rate):
            expired = messages.rank == OTP and now - messages.queued >= OTP_EXPIRES
            self._end(messages, now, not expired)

    def _claim(self, most: int) -> list[Messages]:
        """By rank, then by age: at most `most` messages."""
        found = []
        for queue in self._queue:
            while queue and most:
                taken, left = _split(queue.popleft(), most)
                if left.count:
                    queue.appendleft(left)
                found.append(taken)
                most -= taken.count
        return found

    def _end(self, messages: Messages, now: int, is_sent: bool) -> None:
        if messages.count:
            self._ended += messages.count
            self.ended.append(Ended(messages, now, is_sent))


def _split(messages: Messages, count: int) -> tuple[Messages, Messages]:
    """The first `count`, and the rest."""
    count = min(count, messages.count)
    first = messages._replace(count=count)
    return first, messages._replace(first=messages.first + count, count=messages.count - count)

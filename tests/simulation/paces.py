"""Checks of the senders over a week: each keeps its pace, and a STOP to one concerns its business alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from local.proof import Check
from tests.simulation.plan import MINUTE, SECOND, SHOP_STOPPING, STOPS
from tests.simulation.senders import BY_NAME, LINGERS, NEWS
from tests.simulation.sent import Sent
from tests.simulation.week import Week

WINDOW = timedelta(seconds=10)
# A sender saves the segments of one second, and may borrow half a segment.
SAVED, BORROWED = timedelta(seconds=1), 0.5
# An otp that is sent at once may borrow the segments of ten seconds.
LENT_TO_AN_OTP = timedelta(seconds=10)
SOON = timedelta(seconds=2)


def every_message_has_its_sender(sent: Sequence[Sent]) -> Check:
    def faults() -> Iterator[str]:
        for each in sent:
            if each.sender != each.text.sender.name:
                yield f"message {each.message.id} of {each.text.business_id} was sent by {each.sender}"

    counts = [sum(each.sender == name for each in sent) for name in BY_NAME]
    return Check("Every message has its sender", f"{', '.join(map(str, counts))} POSTs of each sender", tuple(faults()))


def paces_are_kept(sent: Sequence[Sent]) -> Check:
    """In any window of ten seconds. A POST that Twilio refuses counts too."""
    by_sender: dict[str, list[Sent]] = defaultdict(list)
    for each in sent:
        by_sender[each.sender].append(each)
    paces = {name: sender.pace for name, sender in BY_NAME.items() if sender.pace}
    used = {name: [_window(by_sender[name], first) for first in range(len(by_sender[name]))] for name in paces}

    def faults() -> Iterator[str]:
        for name, pace in paces.items():
            for window in used[name]:
                segments, most = sum(each.segments for each in window), _most(pace, window)
                if segments > most:
                    yield f"{name} got {segments} segments from {window[0].at:%a %H:%M:%S} on; the limit is {most:.1f}"

    most = [max((sum(each.segments for each in window) for window in used[name]), default=0) for name in paces]
    of_each = ", ".join(f"{n} at a pace of {pace}" for n, pace in zip(most, paces.values(), strict=True))
    seen = f"the most segments in ten seconds: {of_each}"
    return Check("Paces are kept", seen, tuple(faults()))


def _window(sent: Sequence[Sent], first: int) -> list[Sent]:
    ends = sent[first].at + WINDOW
    return [each for each in sent[first:] if each.at <= ends]


def _most(pace: float, window: Sequence[Sent]) -> float:
    """A full bucket lets a message go that is larger than the bucket."""
    at_once = sum(each.segments for each in window if each.text.kind == "otp" and each.text.entry == "send_sms")
    larger = max(0.0, max(each.segments for each in window) - pace)
    lent = min(at_once, pace * (LENT_TO_AN_OTP / SECOND))
    return pace * ((WINDOW + SAVED) / SECOND) + BORROWED + larger + lent


def no_otp_waits_for_a_campaign(sent: Sequence[Sent]) -> Check:
    first = {each.message.id: each for each in reversed(sent) if each.text.sender is NEWS}.values()
    otps = [each for each in first if each.text.kind == "otp"]
    waves = [each for each in first if each.text.kind == "marketing"]
    behind = [otp for otp in otps if any(wave.text.at <= otp.text.at < wave.at for wave in waves)]

    def faults() -> Iterator[str]:
        for otp in otps:
            if otp.at > _looked_at(otp.text.at) + SOON:
                yield f"message {otp.message.id}, an otp of {otp.text.at:%a %H:%M:%S}, was sent at {otp.at:%H:%M:%S}"
        if not behind:
            yield "no otp was queued while a campaign waited"

    waits = [(otp.at - otp.text.at) / SECOND for otp in behind]
    seen = f"{len(otps)}, {len(behind)} of them behind a campaign: sent within {max(waits, default=0):.1f} s"
    return Check("No otp waits for a campaign", seen, tuple(faults()))


def _looked_at(queued: datetime) -> datetime:
    """The instant from which on a worker looks: between two lingering workers, the next tick."""
    minute = queued.replace(second=0)
    return queued if queued - minute < LINGERS else minute + MINUTE


def a_stop_concerns_the_business_of_its_sender(week: Week, sent: Sequence[Sent]) -> Check:
    to_both = [each for each in sent if each.post.to in SHOP_STOPPING and each.at > week.plan.start + STOPS]
    shops = [each for each in to_both if each.text.business_id == "shop"]
    others = {each.post.to for each in to_both if each.text.business_id != "shop"}
    faults = [f"message {each.message.id} of the shop was sent after a STOP to the shop" for each in shops]
    faults += [f"no message of the bank went to {to} after a STOP to the shop" for to in {*SHOP_STOPPING} - others]
    seen = f"{len(SHOP_STOPPING)} people opted out of one business, and {len(others)} of them got messages of another"
    return Check("A STOP concerns the business of its sender", seen, tuple(faults))

"""Whether the guarantees held over a week: every POST that Twilio saw, against the plan and plain calendars."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from local.proof import Check, checks
from local.twilio.stand_in import Post, Refuse
from tests.simulation.plan import (
    DAY_CAP,
    ENABLED,
    FLOOD,
    HOUR,
    MINUTE,
    NOT_ENABLED,
    OUTAGE,
    STARTS,
    STOPS,
    WITHDRAWALS,
    Text,
)
from tests.simulation.week import Week

# What is shown for every run of this stack.
SHOWN_ELSEWHERE = frozenset({"Nothing is lost", "Nothing is sent twice", "Statuses match"})
# These say nothing about the message, so they must not cost it a retry.
NOBODYS_FAULT = frozenset({20003, 20429, 20503, 21408, 30023})

# Five minutes, half as much again, and a tick.
SOON = 9 * MINUTE

Hours = tuple[time, time] | None
DAY: Hours = (time(8), time(21))
# Weekdays, Saturdays and Sundays for marketing, by area code: Alabama, Texas, Rhode Island, Kentucky.
STATE_HOURS: Mapping[str, tuple[Hours, Hours, Hours]] = {
    "+1205": ((time(8), time(20)), (time(8), time(20)), None),
    "+1214": ((time(9), time(21)), (time(9), time(21)), (time(12), time(21))),
    "+1401": ((time(9), time(18)), (time(10), time(17)), None),
    "+1502": ((time(10), time(21)), (time(10), time(21)), (time(10), time(21))),
}


@dataclass(frozen=True)
class Sent:
    """One POST of a message: our row, what was planned, and the instant of the week."""

    message: Any
    text: Text
    post: Post
    at: datetime

    @property
    def last_moment(self) -> datetime:
        """Until when Twilio may deliver it."""
        return self.at + timedelta(seconds=int(self.post.form["ValidityPeriod"]))


def guarantees(week: Week) -> list[Check]:
    """Every guarantee, with what was looked at and each fault."""
    sent = _sent(week)
    return [
        *(check for check in checks(week.evidence, len(week.plan.texts), {}) if check.guarantee in SHOWN_ELSEWHERE),
        _nobody_is_woken(sent),
        _nothing_goes_late(sent),
        _stop_means_stop(week, sent),
        _marketing_goes_to_those_who_agreed(week, sent),
        _an_outage_costs_no_retry(week),
        _after_an_outage_everything_goes(week, sent),
        _retries_are_within_the_budget(week, sent),
        _a_flood_keeps_nobody_waiting(week),
        _holds_open_and_close(week, sent),
        Check("It ends", f"on {max(week.depth):%A %d %B}", () if week.over else ("something was due for ever",)),
    ]


def _sent(week: Week) -> list[Sent]:
    texts = {(text.person.number, text.body): text for text in week.plan.texts}
    messages = {(m.to_number, m.body): m for m in week.messages}
    return [
        Sent(messages[key], texts[key], post, datetime.fromtimestamp(post.at, UTC))
        for post in week.posts
        if (key := (post.to, post.form["Body"])) in texts
    ]


def _nobody_is_woken(sent: list[Sent]) -> Check:
    minding = [each for each in sent if each.text.kind in ("transactional", "marketing")]

    def faults() -> Iterator[str]:
        for each in minding:
            for zone in each.text.person.zones:
                for what, instant in (("was sent", each.at), ("could be delivered", each.last_moment)):
                    if not _is_day(each.text, zone, each.at, instant):
                        local = instant.astimezone(ZoneInfo(zone))
                        yield f"message {each.message.id} ({each.text.kind}) {what} at {local:%a %H:%M %z} in {zone}"

    zones = len({zone for each in minding for zone in each.text.person.zones})
    changing = sum(any(_changes(zone, each.at) for zone in each.text.person.zones) for each in minding)
    seen = f"{len(minding)} POSTs and their last moments in {zones} zones, {changing} as the clocks changed"
    return Check("Nobody is woken", seen, tuple(faults()))


def _is_day(text: Text, zone: str, sent: datetime, instant: datetime) -> bool:
    """Whether `instant` lies in the hours of the local day on which it was sent; the end belongs to them."""
    there, day = instant.astimezone(ZoneInfo(zone)), sent.astimezone(ZoneInfo(zone)).date()
    hours = [DAY]
    if text.kind == "marketing" and text.person.number[:5] in STATE_HOURS:
        hours.append(STATE_HOURS[text.person.number[:5]][max(0, day.weekday() - 4)])
    return there.date() == day and all(each and each[0] <= there.time() <= each[1] for each in hours)


def _changes(zone: str, at: datetime) -> bool:
    """Whether the clocks change there within a day of `at`."""
    day = timedelta(days=1)
    return len({(at + by).astimezone(ZoneInfo(zone)).utcoffset() for by in (-day, day)}) > 1


def _nothing_goes_late(sent: list[Sent]) -> Check:
    def faults() -> Iterator[str]:
        for each in sent:
            if each.at >= each.message.expires_at:
                yield f"message {each.message.id} was sent after its end"
            elif each.last_moment > each.message.expires_at:
                yield f"message {each.message.id} could be delivered after its end"

    return Check("Nothing goes late", f"{len(sent)} POSTs and their last moments", tuple(faults()))


def _stop_means_stop(week: Week, sent: list[Sent]) -> Check:
    start, plan = week.plan.start, week.plan
    refused_at = dict.fromkeys(plan.stopping, start + STOPS)
    for each in sent:
        if _code(each.post) == 21610:
            refused_at.setdefault(each.post.to, each.at)
    again_at = dict.fromkeys(plan.returning, start + STARTS)

    def faults() -> Iterator[str]:
        for each in sent:
            no, yes = refused_at.get(each.post.to), again_at.get(each.post.to)
            # What had left in the same minute could not know.
            if no and no < each.at and not (yes and yes <= each.at):
                yield f"message {each.message.id} was sent to somebody who had said stop"

    spared = sum(m.reason == "opted_out" for m in week.messages)
    by_twilio = len(refused_at) - len(plan.stopping)
    seen = f"{len(plan.stopping)} said it to us and {by_twilio} to Twilio: {spared} messages were not sent"
    return Check("Stop means stop", seen, tuple(faults()))


def _marketing_goes_to_those_who_agreed(week: Week, sent: list[Sent]) -> Check:
    plan, marketing = week.plan, [each for each in sent if each.text.kind == "marketing"]

    def agrees(each: Sent) -> bool:
        if each.post.to in plan.returning and each.at >= plan.start + STARTS:
            return True
        has_withdrawn = each.text.to_agree_to in plan.withdrawing and each.at >= plan.start + WITHDRAWALS
        return each.text.to_agree_to in plan.opted_in and not has_withdrawn

    faults = [
        f"message {each.message.id} was sent to somebody who did not agree" for each in marketing if not agrees(each)
    ]
    seen = f"{len(marketing)} POSTs to people who agreed, none to {len(plan.withdrawing)} who no longer did"
    return Check("Marketing is welcome", seen, tuple(faults))


def _an_outage_costs_no_retry(week: Week) -> Check:
    before, after = week.spent
    own = {m.id: int(m.failed_before) for m in week.messages}
    faults = [
        f"message {id} had spent {before.get(id, own[id])} retries and then {spent}"
        for id, spent in after.items()
        if spent > before.get(id, own[id])
    ]
    return Check("An outage costs no retry", f"{len(after)} messages, before it and after it", tuple(faults))


def _after_an_outage_everything_goes(week: Week, sent: list[Sent]) -> Check:
    """What may go at any hour has gone soon: no later than the longest wait of what is nobody's fault."""
    begin, end = (week.plan.start + at for at in OUTAGE)
    first: dict[int, datetime] = {}
    for each in sent:
        if each.text.kind == "otp" and each.text.door != "scheduled" and begin <= each.text.at < end:
            first.setdefault(each.message.id, each.at)
    faults = [f"message {id} had to wait until {at:%H:%M}" for id, at in first.items() if at > end + SOON]
    waited = (max(first.values(), default=end) - end) // MINUTE
    return Check("An outage ends", f"{len(first)} that had waited went within {waited} minutes", tuple(faults))


def _retries_are_within_the_budget(week: Week, sent: list[Sent]) -> Check:
    tries: dict[int, int] = defaultdict(int, {m.id: int(m.failed_before) for m in week.messages})
    for each in sent:
        tries[each.message.id] += _code(each.post) not in NOBODYS_FAULT

    def faults() -> Iterator[str]:
        for m in week.messages:
            if tries[m.id] > 1 + m.max_retries:
                yield f"message {m.id} was tried {tries[m.id]} times; it may be {1 + m.max_retries} times"
            if m.retry_count > tries[m.id]:
                yield f"message {m.id} has spent {m.retry_count} retries on {tries[m.id]} tries"

    free = sum(_code(each.post) in NOBODYS_FAULT for each in sent)
    return Check("Retries are bounded", f"1 + 3 tries at most; {free} refusals were nobody's fault", tuple(faults()))


def _a_flood_keeps_nobody_waiting(week: Week) -> Check:
    """Counted in runs of the worker that settled anything: how long one takes is another matter."""
    begin = week.plan.start + FLOOD[0]
    runs = [at for at, settled in week.settled.items() if settled]
    alone = [m for m in week.messages if m.business_id == "corner" and m.tried_at]
    flood = [m.tried_at for m in week.messages if m.business_id == "flood" and m.tried_at]
    faults = [
        f"message {m.id} of {m.created_at:%H:%M} had to wait until {m.tried_at:%H:%M}"
        for m in alone
        if sum(m.created_at <= at < m.tried_at for at in runs) > 1
    ]
    lasted = (max(flood, default=begin) - begin) // MINUTE + 1
    seen = f"{len(flood)} of one business took {lasted} minutes; {len(alone)} of another a minute at most"
    return Check("A flood keeps nobody waiting", seen, tuple(faults))


def _holds_open_and_close(week: Week, sent: list[Sent]) -> Check:
    start = week.plan.start
    probes = sorted({each.at for each in sent if _code(each.post) == 21408})
    midnight = _midnight_pacific(start + DAY_CAP)
    end = max(week.depth)

    def faults() -> Iterator[str]:
        for reason in ("error_20003", "error_21408", "error_30023", "twilio_down"):
            if reason not in {why for _, _, why in week.holds}:
                yield f"nothing was held for {reason}"
        for (scope, key, reason), minutes in week.holds.items():
            if minutes[-1] == end:
                yield f"the {scope} hold on {key} ({reason}) is open at the end"
        for earlier, later in pairwise(probes):
            if later - earlier < HOUR:
                yield f"{NOT_ENABLED} was probed at {earlier:%a %H:%M} and at {later:%H:%M}"
        if not any(each.post.to.startswith(NOT_ENABLED) and each.post.accepted for each in sent):
            yield f"nothing went to {NOT_ENABLED} after it was enabled"
        for each in sent:
            if start + DAY_CAP < each.at < midnight:
                yield f"message {each.message.id} was sent at {each.at:%H:%M} while T-Mobile's cap was used up"

    reasons = ", ".join(sorted({reason for _, _, reason in week.holds}))
    seen = f"{reasons}; {len(probes)} probes of a country until it was enabled on {start + ENABLED:%A}"
    return Check("Holds open and close", seen, tuple(faults()))


def _midnight_pacific(after: datetime) -> datetime:
    pacific = ZoneInfo("America/Los_Angeles")
    return datetime.combine(after.astimezone(pacific).date() + timedelta(days=1), time(0), pacific).astimezone(UTC)


def _code(post: Post) -> int | None:
    return post.step.code if isinstance(post.step, Refuse) else None

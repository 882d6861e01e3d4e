"""Checks of the guarantees over a week: every POST to Twilio, compared with the plan and with plain calendars."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from local.proof import Check, checks
from tests.simulation.paces import (
    a_stop_concerns_the_business_of_its_sender,
    every_message_has_its_sender,
    no_otp_waits_for_a_campaign,
    paces_are_kept,
)
from tests.simulation.plan import (
    CAPPED,
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
from tests.simulation.senders import BY_NAME
from tests.simulation.sent import Sent, sent_in
from tests.simulation.week import Week

# The checks of `local.proof` that apply to a week as well.
SHARED = frozenset({"Nothing is lost", "Nothing is sent twice", "Statuses match"})
# Twilio's codes that do not concern the message: they must not spend a retry.
FREE_CODES = frozenset({20003, 20429, 20503, 21408, 30023})

# The longest wait that spends no retry: five minutes, half of that as the random extra, and one tick.
SOON = 9 * MINUTE

Hours = tuple[time, time] | None
DAY: Hours = (time(8), time(21))
# Weekdays, Saturdays and Sundays for marketing, by the beginning of the number: Alabama, Texas, Rhode Island, Kentucky,
# Oregon, Utah; Australia, Brazil, Germany, France, the United Kingdom, India.
REGION_HOURS: Mapping[str, tuple[Hours, Hours, Hours]] = {
    "+1205": ((time(8), time(20)), (time(8), time(20)), None),
    "+1214": ((time(9), time(21)), (time(9), time(21)), (time(12), time(21))),
    "+1401": ((time(9), time(18)), (time(10), time(17)), None),
    "+1502": ((time(10), time(21)), (time(10), time(21)), (time(10), time(21))),
    "+1503": ((time(8), time(20)), (time(8), time(20)), (time(8), time(20))),
    "+1801": ((time(8), time(21)), (time(8), time(21)), None),
    "+61": ((time(11), time(20)), (time(11), time(20)), (time(11), time(20))),
    "+55": ((time(9), time(18)), (time(9), time(13)), None),
    "+49": ((time(8), time(20)), (time(8), time(20)), (time(8), time(20))),
    "+33": ((time(8), time(22)), (time(8), time(22)), None),
    "+44": ((time(9), time(20)), (time(9), time(20)), (time(9), time(20))),
    "+91": ((time(10), time(21)), (time(10), time(21)), (time(10), time(21))),
}


def guarantees(week: Week) -> list[Check]:
    """One check per guarantee."""
    sent = sent_in(week)
    return [
        *(check for check in checks(week.evidence, len(week.plan.texts), {}) if check.guarantee in SHARED),
        _quiet_hours_are_respected(sent),
        _expiry_is_respected(sent),
        _opt_outs_are_respected(week, sent),
        _marketing_needs_consent(week, sent),
        _outages_spend_no_retry(week),
        _the_queue_drains_after_an_outage(week, sent),
        _retries_are_bounded(week, sent),
        _a_flood_delays_no_other_business(week),
        _holds_are_set_and_cleared(week, sent),
        every_message_has_its_sender(sent),
        paces_are_kept(sent),
        no_otp_waits_for_a_campaign(sent),
        a_stop_concerns_the_business_of_its_sender(week, sent),
        _every_message_ends(week),
    ]


def of_posts(week: Week) -> list[Check]:
    """The guarantees that hold for each POST in any plan, also one without the events of a simulated week."""
    sent = sent_in(week)
    return [_quiet_hours_are_respected(sent), _expiry_is_respected(sent), _marketing_needs_consent(week, sent)]


def _quiet_hours_are_respected(sent: list[Sent]) -> Check:
    with_hours = [each for each in sent if each.text.kind in ("transactional", "marketing")]

    def faults() -> Iterator[str]:
        for each in with_hours:
            for zone in each.text.person.zones:
                for event, instant in (("was sent", each.at), ("could be delivered", each.last_moment)):
                    if not _is_day(each.text, zone, each.at, instant):
                        local = instant.astimezone(ZoneInfo(zone))
                        yield f"message {each.message.id} ({each.text.kind}) {event} at {local:%a %H:%M %z} in {zone}"

    zones = len({zone for each in with_hours for zone in each.text.person.zones})
    changing = sum(any(_changes(zone, each.at) for zone in each.text.person.zones) for each in with_hours)
    seen = f"{len(with_hours)} POSTs and their last moments in {zones} zones, {changing} within a day of a clock change"
    return Check("Quiet hours are respected", seen, tuple(faults()))


def _is_day(text: Text, zone: str, sent: datetime, instant: datetime) -> bool:
    """Whether `instant` is within the hours of the local day of `sent`; the end is included."""
    local, day = instant.astimezone(ZoneInfo(zone)), sent.astimezone(ZoneInfo(zone)).date()
    hours = [DAY]
    if text.kind == "marketing":
        begins = (begin for begin in REGION_HOURS if text.person.number.startswith(begin))
        hours += [REGION_HOURS[begin][max(0, day.weekday() - 4)] for begin in begins]
    return local.date() == day and all(each and each[0] <= local.time() <= each[1] for each in hours)


def _changes(zone: str, at: datetime) -> bool:
    """Whether the clocks in `zone` change within a day of `at`."""
    day = timedelta(days=1)
    return len({(at + by).astimezone(ZoneInfo(zone)).utcoffset() for by in (-day, day)}) > 1


def _expiry_is_respected(sent: list[Sent]) -> Check:
    def faults() -> Iterator[str]:
        for each in sent:
            if each.at >= each.message.expires_at:
                yield f"message {each.message.id} was sent after its expiry"
            elif each.last_moment > each.message.expires_at:
                yield f"message {each.message.id} could be delivered after its expiry"

    return Check("Expiry is respected", f"{len(sent)} POSTs and their last moments", tuple(faults()))


def _opt_outs_are_respected(week: Week, sent: list[Sent]) -> Check:
    """By business and number. An opt-out at the sender of the deployment concerns every business, `*`."""
    start, plan = week.plan.start, week.plan
    opted_out_at = {("*", number): start + STOPS for number in plan.stopping}
    for each in sent:
        if each.code == 21610:
            opted_out_at.setdefault((BY_NAME[each.sender].business_id or "*", each.post.to), each.at)
    opted_in_at = {("*", number): start + STARTS for number in plan.returning}

    def faults() -> Iterator[str]:
        for each in sent:
            for pair in (("*", each.post.to), each.text.pair):
                opted_out, opted_in = opted_out_at.get(pair), opted_in_at.get(pair)
                # A POST in the minute of the opt-out is not a fault.
                if opted_out and opted_out < each.at and not (opted_in and opted_in <= each.at):
                    yield f"message {each.message.id} was sent to a person who had opted out"

    unsent = sum(m.reason == "opted_out" for m in week.messages)
    by_twilio = len(opted_out_at) - len(plan.stopping)
    seen = (
        f"{len(plan.stopping)} people opted out at our webhook, {by_twilio} at Twilio: {unsent} messages were not sent"
    )
    return Check("Opt-outs are respected", seen, tuple(faults()))


def _marketing_needs_consent(week: Week, sent: list[Sent]) -> Check:
    plan, marketing = week.plan, [each for each in sent if each.text.kind == "marketing"]

    def has_consent(each: Sent) -> bool:
        has_withdrawn = each.text.pair in plan.withdrawing and each.at >= plan.start + WITHDRAWALS
        return each.text.pair in plan.opted_in and not has_withdrawn

    faults = [f"message {each.message.id} was sent without consent" for each in marketing if not has_consent(each)]
    seen = f"{len(marketing)} POSTs with consent, none after {len(plan.withdrawing)} withdrawals"
    return Check("Marketing needs consent", seen, tuple(faults))


def _outages_spend_no_retry(week: Week) -> Check:
    before, after = week.spent
    failed_before = {m.id: int(m.failed_before) for m in week.messages}
    faults = [
        f"message {id} had spent {before.get(id, failed_before[id])} retries before and {spent} after"
        for id, spent in after.items()
        if spent > before.get(id, failed_before[id])
    ]
    return Check("Outages spend no retry", f"{len(after)} messages, before and after an outage", tuple(faults))


def _the_queue_drains_after_an_outage(week: Week, sent: list[Sent]) -> Check:
    """Messages that ignore hours are sent within SOON after the outage."""
    begin, end = (week.plan.start + at for at in OUTAGE)
    first: dict[int, datetime] = {}
    for each in sent:
        if each.text.kind == "otp" and each.text.entry != "scheduled" and begin <= each.text.at < end:
            first.setdefault(each.message.id, each.at)
    faults = [f"message {id} was not sent before {at:%H:%M}" for id, at in first.items() if at > end + SOON]
    waited = (max(first.values(), default=end) - end) // MINUTE
    seen = f"{len(first)} waiting messages were sent within {waited} minutes"
    return Check("Outages end", seen, tuple(faults))


def _retries_are_bounded(week: Week, sent: list[Sent]) -> Check:
    tries: dict[int, int] = defaultdict(int, {m.id: int(m.failed_before) for m in week.messages})
    for each in sent:
        tries[each.message.id] += each.code not in FREE_CODES

    def faults() -> Iterator[str]:
        for m in week.messages:
            if tries[m.id] > 1 + m.max_retries:
                yield f"message {m.id} was tried {tries[m.id]} times; the limit is {1 + m.max_retries}"
            if m.retry_count > tries[m.id]:
                yield f"message {m.id} has spent {m.retry_count} retries on {tries[m.id]} tries"

    free = sum(each.code in FREE_CODES for each in sent)
    seen = f"1 + 3 tries at most; {free} refusals did not concern the message"
    return Check("Retries are bounded", seen, tuple(faults()))


def _a_flood_delays_no_other_business(week: Week) -> Check:
    """The delay is counted in workers that settled a message, not in minutes: the duration of a worker varies."""
    begin = week.plan.start + FLOOD[0]
    workers = [at for at, settled in week.settled.items() if settled]
    others = [m for m in week.messages if m.business_id == "corner" and m.tried_at]
    flood = [m.tried_at for m in week.messages if m.business_id == "flood" and m.tried_at]
    faults = [
        f"message {m.id}, queued at {m.created_at:%H:%M}, was not tried before {m.tried_at:%H:%M}"
        for m in others
        if sum(m.created_at <= at < m.tried_at for at in workers) > 1
    ]
    lasted = (max(flood, default=begin) - begin) // MINUTE + 1
    seen = f"{len(flood)} of one business took {lasted} minutes; {len(others)} of another waited for one worker at most"
    return Check("Businesses are treated fairly", seen, tuple(faults))


def _holds_are_set_and_cleared(week: Week, sent: list[Sent]) -> Check:
    start = week.plan.start
    probes = sorted({each.at for each in sent if each.code == 21408})
    midnight = _midnight_pacific(start + DAY_CAP)
    end = max(week.depth)

    def faults() -> Iterator[str]:
        for reason in ("error_20003", "error_21408", "error_30023", "twilio_down"):
            if reason not in {reason_of_hold for _, _, reason_of_hold in week.holds}:
                yield f"no hold was set for {reason}"
        for (scope, key, reason), minutes in week.holds.items():
            if minutes[-1] == end:
                yield f"the {scope} hold on {key} ({reason}) was never cleared"
        for earlier, later in pairwise(probes):
            if later - earlier < HOUR:
                yield f"{NOT_ENABLED} was probed at {earlier:%a %H:%M} and at {later:%H:%M}"
        if not any(each.post.to.startswith(NOT_ENABLED) and each.post.accepted for each in sent):
            yield f"no message was sent to {NOT_ENABLED} after it was enabled"
        meanwhile = [each for each in sent if start + DAY_CAP < each.at < midnight]
        for each in meanwhile:
            if each.post.to == CAPPED:
                yield f"message {each.message.id} was sent at {each.at:%H:%M} while T-Mobile's cap was used up"
        if not meanwhile:
            yield "no message to any other carrier was sent while T-Mobile's cap was used up"

    reasons = ", ".join(sorted({reason for _, _, reason in week.holds}))
    seen = f"{reasons}; {len(probes)} probes of a country until it was enabled on {start + ENABLED:%A}"
    return Check("Holds are set and cleared", seen, tuple(faults()))


def _every_message_ends(week: Week) -> Check:
    faults = () if week.over else ("a message was still due when the simulation ended",)
    return Check("Every message ends", f"on {max(week.depth):%A %d %B}", faults)


def _midnight_pacific(after: datetime) -> datetime:
    pacific = ZoneInfo("America/Los_Angeles")
    return datetime.combine(after.astimezone(pacific).date() + timedelta(days=1), time(0), pacific).astimezone(UTC)

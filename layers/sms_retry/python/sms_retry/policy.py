"""The judgement of a failure: whether it is worth another try, and when. Pure: the caller gives the instant."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sms_retry.codes import SCHEDULE, CodeRule, code_rules, parse
from sms_retry.values import Ask, Final, Hold, Receipt, Refused, Retry, StopSending, Unreached, Verdict

LONGEST_WAIT = timedelta(hours=12)
# A retry that spends nothing waits for an outage to end. Short waits let the queue drain at full speed afterwards.
LONGEST_FREE_WAIT = timedelta(minutes=5)
# Wider than the minute between two ticks: otherwise messages that failed in one tick are all due in one tick again.
NARROWEST_SPREAD = timedelta(seconds=90)
# The code that an HTTP status stands for where the answer has none.
CODES_OF_STATUSES = {401: 20003, 403: 20403, 404: 20404, 429: 20429}
# The first wait after a failure that no code of Twilio explains.
FIRST_FREE_WAIT = timedelta(seconds=5)

# Twilio reports a STOP to a toll-free number by this code. It has other causes too, and an opt-out is the safe reading:
# https://www.twilio.com/docs/api/errors/30004
BLOCKED = 30004
TOLL_FREE = tuple(f"+1{area_code}" for area_code in (800, 833, 844, 855, 866, 877, 888))

# Gives 0..1 for the random extra of a wait.
Roll = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules that apply: those of the release, and an operator's in place of some of them."""

    rules: Mapping[int, CodeRule]

    @classmethod
    def of(cls, overrides: Iterable[Sequence[object]] = ()) -> Policy:
        """`overrides` are rows in the order of the table's columns."""
        return cls({**code_rules(), **parse(overrides)})

    def judge(
        self, failure: Refused | Unreached, attempt: int, to_number: str, now: datetime, roll: Roll = random.random
    ) -> Verdict:
        """The verdict on a POST that Twilio did not accept; `attempt` counts claims."""
        match failure:
            case Unreached():
                return Retry((_free_wait(FIRST_FREE_WAIT, attempt, roll),), "not_connected", spends=False)
            case Refused(http_status=status, code=code):
                meant = code if code in self.rules else CODES_OF_STATUSES.get(status, code)
                verdict = (
                    Retry((_free_wait(FIRST_FREE_WAIT, attempt, roll),), "no_twilio_code", spends=False)
                    if meant is None
                    else self._verdict(meant, attempt, to_number, now, roll)
                )
        if isinstance(verdict, Retry) and (least := failure.retry_after):
            return replace(verdict, delays=tuple(max(wait, least) for wait in verdict.delays))
        return verdict

    def judge_receipt(self, receipt: Receipt, now: datetime, roll: Roll = random.random) -> Verdict:
        """The verdict on a receipt: `failed` means that the message never left Twilio, `undelivered` that it did."""
        if receipt.error_code is None:
            return Final("no_code")
        if self._is_toll_free_stop(receipt):
            return StopSending()
        attempt = receipt.ticket.attempt if receipt.ticket else 1
        verdict = self._verdict(receipt.error_code, attempt, receipt.to_number, now, roll)
        match verdict:
            # The receipt is Twilio's answer already, and only a message that left Twilio can arrive twice.
            case Ask(reason=reason) if receipt.status == "failed":
                return Retry(tuple(_spread(wait, roll) for wait in SCHEDULE), reason)
            case Ask(reason=reason):
                return Final(reason)
            case _:
                return verdict

    def _is_toll_free_stop(self, receipt: Receipt) -> bool:
        """Whether the receipt may report a STOP to a toll-free number; an override of the code outweighs this."""
        is_the_releases = self.rules.get(BLOCKED) == code_rules().get(BLOCKED)
        return receipt.error_code == BLOCKED and is_the_releases and receipt.from_number.startswith(TOLL_FREE)

    def _verdict(self, code: int, attempt: int, to_number: str, now: datetime, roll: Roll) -> Verdict:
        reason = f"error_{code}"
        match rule := self.rules.get(code):
            case None:
                return Final("unlisted")
            case CodeRule(verdict="retry", spends=False):
                return Retry((_free_wait(rule.base, attempt, roll),), reason, spends=False)
            case CodeRule(verdict="retry"):
                return Retry(tuple(_spread(wait, roll) for wait in rule.waits), reason)
            case CodeRule(verdict="hold", strategy=strategy):
                if not (key := _hold_key(rule.scope, to_number)):
                    return Final(reason)
                wait = _until_midnight_pacific(now) if strategy == "midnight_pacific" else rule.base
                scope = "country" if rule.scope == "calling_code" else rule.scope
                retries = rule.waits if rule.spends and rule.retries else ()
                return Hold(scope, key, wait, reason, retries, is_of_sender=rule.scope == "calling_code")
            case CodeRule(verdict="opt_out"):
                return StopSending()
            case CodeRule(verdict="unknown"):
                return Ask(reason)
            case _:
                return Final(reason)


def explains(answer: Refused) -> bool:
    """Whether the answer is Twilio's: a proxy or a firewall before Twilio gives no code."""
    return answer.code is not None or answer.http_status in CODES_OF_STATUSES


def _hold_key(scope: str, to_number: str) -> str | None:
    """The key of a hold; None for a number of no known country. `Hold.of` names the account and the sender.

    Several countries share +1. The scope `country` tells them apart by the three digits after it, and `calling_code`
    covers them all.
    """
    match scope:
        case "country" | "calling_code":
            import phonenumbers

            try:
                number = phonenumbers.parse(to_number)
            except phonenumbers.NumberParseException:
                return None
            shares = scope == "country" and number.country_code == 1
            return to_number[:5] if shares else f"+{number.country_code}"
        case "recipient":
            return to_number or None
        case _:
            return "*"


def _spread(wait: timedelta, roll: Roll) -> timedelta:
    if not wait:
        return wait
    return min(LONGEST_WAIT, wait) + roll() * max(NARROWEST_SPREAD, wait / 2)


def _free_wait(base: timedelta, attempt: int, roll: Roll) -> timedelta:
    return _spread(min(LONGEST_FREE_WAIT, base * 2 ** min(max(attempt, 1) - 1, 10)), roll)


def _until_midnight_pacific(now: datetime) -> timedelta:
    pacific = ZoneInfo("America/Los_Angeles")
    tomorrow = now.astimezone(pacific).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time(0), pacific).astimezone(UTC) - now

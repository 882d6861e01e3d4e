"""The plan of a week: people in every zone of the world, the texts of businesses to them, and the failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

import phonenumbers
from phonenumbers import PhoneNumberType, timezone

from local.twilio.plan import StepFor
from local.twilio.stand_in import Accept, BadAnswer, Callbacks, Refuse, Reset, Step, mix
from tests.simulation.clock import VirtualClock
from tests.simulation.senders import BY_BUSINESS, BY_NAME, NEWS, OF_DEPLOYMENT, Sender

WEEK = timedelta(days=7)
# Each week begins on a Thursday at midnight UTC, and the clocks change on its Sunday.
WEEKS = {
    "spring in the United States": datetime(2026, 3, 5, tzinfo=UTC),
    "spring in Europe": datetime(2026, 3, 26, tzinfo=UTC),
    "autumn in Europe": datetime(2026, 10, 22, tzinfo=UTC),
    "autumn in the United States": datetime(2026, 10, 29, tzinfo=UTC),
}
THURSDAY, FRIDAY, SATURDAY, SUNDAY, MONDAY, TUESDAY, WEDNESDAY = (timedelta(days=n) for n in range(7))
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)

# Times since the beginning of the week: (from, until) or one moment.
CONGESTION = THURSDAY + 12 * HOUR, THURSDAY + 13 * HOUR
OUTAGE = FRIDAY + 9 * HOUR, FRIDAY + 13 * HOUR
STOPS = SATURDAY + 10 * HOUR
WITHDRAWALS = SATURDAY + 12 * HOUR
STARTS = MONDAY + 10 * HOUR
FLOOD = MONDAY + 14 * HOUR, MONDAY + 14 * HOUR + 15 * MINUTE
# From here on the paced sender of the news has an otp every minute, and one wave of its campaign after the other.
CAMPAIGN, BETWEEN_WAVES = MONDAY + 16 * HOUR, 12 * MINUTE
ENABLED = TUESDAY
ROUGH_DAY = TUESDAY, WEDNESDAY
# Two hours before midnight Pacific in winter, one in summer.
DAY_CAP = WEDNESDAY + 6 * HOUR
BAD_CREDENTIALS = WEDNESDAY + 14 * HOUR, WEDNESDAY + 14 * HOUR + 20 * MINUTE

CONGESTED, NOT_ENABLED = "+234803", "+63917"
# Area codes of states with special hours for marketing, and their zones: Alabama, Texas, Rhode Island, Kentucky,
# Oregon, Utah.
STATES = {
    "+1205555": "America/Chicago",
    "+1214555": "America/Chicago",
    "+1401555": "America/New_York",
    "+1502555": "America/New_York",
    "+1503555": "America/Los_Angeles",
    "+1801555": "America/Denver",
}
CONTIGUOUS = ("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles")
BUSINESSES = ("bank", "clinic", "school", "shop")
KINDS = {"transactional": 55, "marketing": 25, "otp": 15, "emergency": 5}
ENTRIES = {"sql": 50, "send_sms": 35, "failed": 10, "scheduled": 5}

# Seconds until a message is in Twilio's list, in each week.
LIST_LAGS = dict(zip(WEEKS, (20, 1500, 5400, 600), strict=True))
# Smart Encoding is on, and rewrites the characters of these texts that are not in GSM-7.
TEXTS = "Notice {}.", "Don’t miss “notice {}” — it’s due…", "Notice\N{NO-BREAK SPACE}{}: 10½ €"
LOST = Accept(callbacks=Callbacks(lost=1))
CALLBACKS = Callbacks(delay=20, late=0.08, late_by=7200, lost=0.05, repeated=0.1, out_of_order=0.1)
# These reply STOP to the sender of the shop, and at the same time have messages of the shop and of the bank.
SHOP_STOPPING = tuple(f"+44791112347{n}" for n in range(3))
# Opts in to one business, and then opts out of all.
OPTED_IN_AND_OUT = "+447911123460"
# Special first POSTs: to CAPPED it is refused; to the numbers in UNANSWERED its answer and its callbacks are lost.
CAPPED, UNANSWERED = "+12025550199", tuple(f"+1202555018{n}" for n in range(5))
FIRST_STEPS: dict[str, Step] = {CAPPED: Refuse(400, 30023), **{number: Reset(LOST) for number in UNANSWERED}}
FAIR: tuple[tuple[float, Step], ...] = (
    (95, Accept()),
    (2, Accept(("sent", ("undelivered", 30003)))),
    (1, Accept(("sent", ("undelivered", 30008)))),
    (1, Accept(("sent", ("undelivered", 30005)))),
    (1, Refuse(429, 20429, retry_after=2)),
)
ROUGH: tuple[tuple[float, Step], ...] = (
    (60, Accept()),
    (8, Refuse(503, 20503)),
    (8, Refuse(429, 20429, retry_after=2)),
    (6, Refuse(400, 30001)),
    (6, Accept(("sent", ("undelivered", 30003)))),
    (2, Refuse(400, 21211)),
    (2, Reset(LOST)),
    (2, Reset(accepted=None)),
    (2, BadAnswer(500, accepted=LOST)),
    (2, BadAnswer(502, accepted=None)),
    (1, BadAnswer(503, accepted=LOST)),
    (1, BadAnswer(201, body="", accepted=Accept())),
)


@dataclass(frozen=True, slots=True)
class Person:
    """`stated` is the zone that businesses give, or None; `zones` are all zones in which this person may be."""

    number: str
    stated: str | None
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a business to a person, the instant at which it is queued, and its entry, one of ENTRIES.

    `named` is the sender that it names.
    """

    at: datetime
    person: Person
    body: str
    kind: str
    business_id: str
    entry: str
    on_unknown: str = "resend"
    expires_at: datetime | None = None
    named: str | None = None

    @property
    def sender(self) -> Sender:
        return BY_NAME[self.named] if self.named else BY_BUSINESS.get(self.business_id, OF_DEPLOYMENT)

    @property
    def pair(self) -> tuple[str, str]:
        """The business and the number, for which consent is stored."""
        return self.business_id, self.person.number


@dataclass(frozen=True, slots=True)
class Plan:
    """One week. `opted_in` are pairs of business and number, and `withdrawing` those of them that withdraw consent.
    Numbers in `stopping` reply STOP, and those in `returning` reply START later. Numbers in `blocking` have opted out
    at Twilio only.
    """

    name: str
    start: datetime
    texts: tuple[Text, ...]
    opted_in: frozenset[tuple[str, str]]
    withdrawing: frozenset[tuple[str, str]]
    stopping: frozenset[str]
    returning: frozenset[str]
    blocking: frozenset[str]
    seed: int

    def during(self, span: tuple[timedelta, timedelta], at: datetime) -> bool:
        return span[0] <= at - self.start < span[1]


def plan_week(name: str, messages: int, zones: Sequence[str], seed: int) -> Plan:
    """The same week for the same seed; `zones` are the zones that both Python and the database know."""
    rng = Random(f"{seed} {name}")
    start, people = WEEKS[name], list(_people(messages // 2, zones, rng))
    ordinary, special = list(_ordinary(start, people, messages, rng)), list(_special(start, people, messages, rng))
    pairs = sorted({text.pair for text in ordinary if text.kind == "marketing"})
    special_pairs = {text.pair for text in special if text.kind == "marketing"}
    numbers = sorted({person.number for person in people})
    stopping = frozenset([OPTED_IN_AND_OUT, *rng.sample(numbers, len(numbers) // 12)])
    return Plan(
        name=name,
        start=start,
        texts=tuple(sorted(ordinary + special, key=lambda text: text.at)),
        opted_in=frozenset(special_pairs.union(rng.sample(pairs, 2 * len(pairs) // 3))),
        withdrawing=frozenset(pair for pair in special_pairs if pair[0] == "club"),
        stopping=stopping,
        returning=frozenset(sorted(stopping)[::3]),
        blocking=frozenset(rng.sample([n for n in numbers if n not in stopping], len(numbers) // 20)),
        seed=seed,
    )


def step_for(plan: Plan, clock: VirtualClock) -> StepFor:
    """The step of a POST, by the simulated time."""
    fair, rough = mix(plan.seed, *FAIR), mix(plan.seed, *ROUGH)

    def step(to: str, nth: int) -> Step:
        at = clock.now
        if plan.during(BAD_CREDENTIALS, at):
            return Refuse(401, 20003)
        if to in plan.blocking and at - plan.start >= STOPS:
            return Refuse(400, 21610)
        if to.startswith(NOT_ENABLED) and at - plan.start < ENABLED:
            return Refuse(400, 21408)
        if to.startswith(CONGESTED) and plan.during(CONGESTION, at):
            return Accept((("failed", 30001),)) if nth % 2 else Accept(("sent", ("undelivered", 30017)))
        return (rough if plan.during(ROUGH_DAY, at) else fair)(to, nth)

    return step


def _people(number: int, zones: Sequence[str], rng: Random) -> Iterator[Person]:
    """Half of the people have a stated zone, each a different one; for the others only the number limits the zones."""
    examples = [
        phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        for region in sorted(phonenumbers.SUPPORTED_REGIONS)
        if (example := phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE))
    ]
    known = rng.sample(zones, len(zones))
    for n in range(number):
        shown = f"{list(STATES)[n // 16 % len(STATES)]}0100" if n % 16 < 4 else rng.choice(examples)
        phone = shown[:-3] + f"{rng.randrange(1000):03}"
        possible = timezone.time_zones_for_number(phonenumbers.parse(phone))
        if n % 2 or timezone.UNKNOWN_TIMEZONE in possible:
            yield _person_in(phone, known[n // 2 % len(known)])
        else:
            # A number of no known area below +1: libphonenumber names the zones from Guam to Newfoundland.
            yield Person(phone, None, CONTIGUOUS if len(possible) > 40 else tuple(possible))


def _ordinary(start: datetime, people: Sequence[Person], messages: int, rng: Random) -> Iterator[Text]:
    for n in range(messages // 2):
        at = start + rng.randrange(7 * 24 * 60) * MINUTE
        (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
        (entry,) = rng.choices(list(ENTRIES), list(ENTRIES.values()))
        expires_at = at + rng.choice((1, 4, 12)) * HOUR if rng.random() < 0.15 and entry != "scheduled" else None
        on_unknown = "hold" if rng.random() < 0.1 else "resend"
        person, business = rng.choice(people), rng.choice(BUSINESSES)
        yield Text(at, person, TEXTS[n % len(TEXTS)].format(n), kind, business, entry, on_unknown, expires_at)


def _special(start: datetime, people: Sequence[Person], messages: int, rng: Random) -> Iterator[Text]:
    """Texts that meet each failure of the week, also if the week has few messages."""
    for n in range(max(5, messages // 25)):
        lagos, manila = (
            _person_in(f"{CONGESTED}{n:07}", "Africa/Lagos"),
            _person_in(f"{NOT_ENABLED}{n:07}", "Asia/Manila"),
        )
        at = start + CONGESTION[0] + rng.randrange(60) * MINUTE
        yield Text(at, lagos, f"Your parcel {n} is here.", "transactional", "shop", "sql")
        at = start + rng.randrange(6 * 24 * 60) * MINUTE
        yield Text(at, manila, f"Your visit {n} is due.", "transactional", "clinic", "sql")
    for n in range(15):
        at, before_its_end = start + OUTAGE[0] + HOUR, start + OUTAGE[1] - MINUTE
        expires_at = None if n % 3 else before_its_end
        yield Text(at, people[n], f"Your login is {n:06}.", "otp", "bank", "sql", expires_at=expires_at)
    for n in range(max(120, messages // 3)):
        yield Text(start + FLOOD[0], people[n % len(people)], f"Your code is {n:06}.", "otp", "flood", "sql")
    for n in range(10):
        yield Text(start + FLOOD[0] + n * MINUTE, people[n], f"Your cake {n} is ready.", "otp", "corner", "sql")
    for number, after in ((CAPPED, DAY_CAP), (CAPPED, BAD_CREDENTIALS[0]), *((each, TUESDAY) for each in UNANSWERED)):
        washington = _person_in(number, "America/New_York")
        yield Text(start + after, washington, f"Your card of {after}.", "otp", "bank", "sql")
    yield from _campaign(start, messages, rng)
    yield from _edge_cases(start)


def _campaign(start: datetime, messages: int, rng: Random) -> Iterator[Text]:
    """An otp every minute, at any of its seconds; and waves of the news and the gym, with an otp behind each."""
    minutes, waves = max(30, messages // 8), max(3, messages // 100)
    for minute in range(minutes):
        is_behind = minute % (BETWEEN_WAVES // MINUTE) == 0
        at = start + CAMPAIGN + minute * MINUTE + rng.randrange(*((2, 10) if is_behind else (0, 60))) * SECOND
        entry = "send_sms" if minute % 10 == 5 else "sql"
        yield Text(at, _londoner(f"4{minute:03}"), f"Your pass is {minute:06}.", "otp", "news", entry)
    for n in range(20 * waves):
        at = start + CAMPAIGN + n // 20 * BETWEEN_WAVES
        body = f"News {n}." + " Read more of it." * (10 if n % 3 == 0 else 1)
        business, named = ("gym", NEWS.name) if n % 4 == 0 else ("news", None)
        yield Text(at, _londoner(f"5{n:03}"), body, "marketing", business, "sql", named=named)


def _edge_cases(start: datetime) -> Iterator[Text]:
    """Texts at times that are allowed by one rule or zone and forbidden by another."""
    for state, zone in STATES.items():
        yield Text(
            start + SUNDAY + 15.5 * HOUR, Person(f"{state}0123", None, (zone,)), "A sale!", "marketing", "shop", "sql"
        )
    for number, zone in (("+12125550123", "America/New_York"), ("+4930123456", "Europe/Berlin")):
        yield Text(
            start + SUNDAY + 4 * HOUR, _person_in(number, zone), "Your bus is late.", "transactional", "school", "sql"
        )
    australian = "+61412345678"
    anywhere = tuple(timezone.time_zones_for_number(phonenumbers.parse(australian)))
    yield Text(
        start + THURSDAY + 22 * HOUR, Person(australian, None, anywhere), "Hello.", "transactional", "bank", "sql"
    )
    for n in range(3):
        londoner = _person_in(f"+44791112345{n}", "Europe/London")
        yield Text(start + SATURDAY + 9 * HOUR, londoner, "Come to us!", "marketing", "club", "scheduled")
    for number in SHOP_STOPPING:
        for business in ("shop", "bank"):
            londoner, body = _person_in(number, "Europe/London"), f"The {business} is open."
            yield Text(start + SATURDAY + 8 * HOUR, londoner, body, "transactional", business, "scheduled")
    for n, day in enumerate((THURSDAY, SUNDAY)):
        londoner = _person_in(OPTED_IN_AND_OUT, "Europe/London")
        yield Text(start + day + 12 * HOUR, londoner, f"Offer {n}.", "marketing", "shop", "sql")


def _londoner(digits: str) -> Person:
    return _person_in(f"+44791112{digits}", "Europe/London")


def _person_in(number: str, zone: str) -> Person:
    return Person(number, zone, (zone,))

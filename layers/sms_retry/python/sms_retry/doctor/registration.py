"""The verdicts on the registration of a number, which carriers of the United States and Canada demand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from sms_retry.doctor.finding import Finding, Unseen, unseen

# `local` is a number of the United States that is not toll-free.
Kind = Literal["local", "toll-free", "elsewhere"]
DOCUMENTED = "https://www.twilio.com/docs"


def judge(
    check: str, kind: Kind, verification: str | Unseen | None, campaigns: tuple[str, ...] | Unseen
) -> Iterator[Finding]:
    """Carriers of the United States and Canada block toll-free numbers without a verification, and those of the United
    States block other numbers without a campaign. https://www.twilio.com/docs/api/errors/30034
    """
    if kind == "toll-free":
        yield _verification(f"{check}: toll-free verification", verification)
    elif kind == "local":
        yield _campaign(f"{check}: 10DLC", campaigns)


def _verification(check: str, state: str | Unseen | None) -> Finding:
    match state:
        case Unseen():
            return unseen(check, state)
        case "TWILIO_APPROVED":
            return Finding(check, "ok", "The number is verified.")
        case _:
            fact = "The number has no verification." if state is None else f"The verification is {state}."
            do = f"Carriers block it (30032) until it is verified: {DOCUMENTED}/messaging/compliance/toll-free."
            return Finding(check, "wrong", fact, do)


def _campaign(check: str, campaigns: tuple[str, ...] | Unseen) -> Finding:
    match campaigns:
        case Unseen():
            return unseen(check, campaigns)
        case _ if "VERIFIED" in campaigns:
            return Finding(check, "ok", "A verified campaign covers the number.")
        case _:
            fact = f"Its campaign is {', '.join(campaigns)}." if campaigns else "No campaign covers this number."
            do = f"Carriers of the United States block it (30034): {DOCUMENTED}/messaging/compliance/a2p-10dlc."
            return Finding(check, "wrong" if "FAILED" in campaigns else "warning", fact, do)

"""A finding: the verdict on one check, with the fact behind it and the thing to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import psycopg
from botocore.exceptions import BotoCoreError, ClientError
from twilio.base.exceptions import TwilioException, TwilioRestException

from sms_retry.twilio import AnswerLost, NotSent

Level = Literal["ok", "warning", "wrong"]
Fact = TypeVar("Fact")

# The exceptions of a world that cannot be looked at. Every other exception is a fault of the program.
CANNOT_LOOK = (psycopg.Error, BotoCoreError, ClientError, TwilioException, NotSent, AnswerLost, OSError)


@dataclass(frozen=True, slots=True)
class Finding:
    """`fact` and `to_do` are sentences without a secret and without the number of a person."""

    check: str
    level: Level
    fact: str
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class Unseen:
    """A fact that could not be looked at."""

    why: str


def seen(look: Callable[[], Fact]) -> Fact | Unseen:
    """The fact, or the reason why it could not be looked at."""
    try:
        return look()
    except CANNOT_LOOK as error:
        return Unseen(reason(error))


def reason(error: BaseException) -> str:
    """An error in words that hold no secret."""
    match error:
        case ClientError(response={"Error": {"Code": code}}, operation_name=operation):
            return f"AWS refused {operation}: {code}"
        case TwilioRestException(status=status, code=code):
            return f"Twilio answered HTTP {status}" + (f", code {code}" if code else "")
        case psycopg.OperationalError(sqlstate=None):
            return " ".join(str(error).split())
        case psycopg.Error(diag=diag):
            return f"Postgres: {diag.message_primary or type(error).__name__}"
        case NotSent() | AnswerLost():
            return str(error)
        case _:
            return type(error).__name__


def unseen(check: str, fact: Unseen) -> Finding:
    return Finding(check, "warning", f"Not looked at. {fact.why}.", "Look at it with other rights, or by hand.")

"""`python -m sms_retry`: show the queue and act on it by hand, in the database that the environment names.

Output is tables, or JSON with `--json`. Exit codes: 0 done, 1 cannot be done, 2 invalid arguments or environment.
"""

from __future__ import annotations

import argparse
import getpass
import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

import psycopg
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.exceptions import BotoCoreError

from sms_retry import commands, numbers, terminal
from sms_retry.intake import SENDER
from sms_retry.settings import SettingsError

DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
KEYS = {
    "account": (r"\*|[A-Za-z0-9_-]{1,64}", "* (the main account) or the name of a subaccount"),
    "sender": (SENDER.pattern, "* (TWILIO_SENDER) or a sender such as +14155550123"),
    "business": (r"(?!\*$).+", "the id of a business"),
    "batch": (r"(?!\*$).+", "the name of a batch"),
    "country": (r"\+[1-9][0-9]{0,6}", "a prefix such as +44"),
    "recipient": (numbers.E164.pattern, "a number such as +14155550123"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line()
    given = parser.parse_args(arguments)
    if "scope" in given and given.scope == "recipient":
        given.key = numbers.from_text(given.key) or ""
    if "scope" in given and not re.fullmatch(KEYS[given.scope][0], given.key):
        parser.error(f"the key of a hold on the {given.scope} must be {KEYS[given.scope][1]}")
    try:
        result = given.act(given)
    except SettingsError as fault:
        parser.error(str(fault))
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted. If the command was at work, it is done in part: repeat it.\n")
    except (commands.CannotBeDone, psycopg.Error, GetParameterError, BotoCoreError) as why:
        parser.exit(1, f"{parser.prog}: {_sentence(why)}\n")
    if given.json:
        print(json.dumps(result.facts, default=_json, indent=2))
    else:
        terminal.show(result.shown)
    return int(result.code)


def _json(value: Any) -> Any:
    match value:
        case Decimal():
            return float(value)
        case timedelta():
            return value.total_seconds()
        case _:
            return value.isoformat()


def _sentence(why: Exception) -> str:
    match why:
        case commands.CannotBeDone():
            return str(why)
        case GetParameterError() | BotoCoreError():
            return "the secret of DATABASE_SECRET_ARN cannot be read: check the ARN, the region and your permissions"
        case psycopg.errors.InvalidSchemaName() | psycopg.errors.UndefinedFunction() | psycopg.errors.UndefinedTable():
            return "the database does not have the schema of this release: invoke migrate first"
        case psycopg.errors.InsufficientPrivilege(diag=diag):
            return f"{diag.message_primary}: sign in as the owner of the schema sms_retry, or as the runtime role"
        case psycopg.OperationalError(sqlstate=None):
            return f"the database cannot be reached: {' '.join(str(why).split())}"
        case psycopg.Error(diag=diag):
            # The error's details may contain a whole row.
            return f"the database reported an error: {diag.message_primary or type(why).__name__}"
        case _:
            raise why


def _doctor(given: argparse.Namespace) -> commands.Result:
    # It imports clients that no other command needs.
    from sms_retry import doctor

    return doctor.doctor(given)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one sentence without argparse's usage lines."""
        self.exit(2, f"{self.prog}: {message}\n")


# Adds a command: its name, its action, its help, and whether it may concern many messages.
Command = Callable[..., _Parser]


def command_line() -> _Parser:
    """The parser of all commands."""
    parser = _Parser(prog="sms_retry", description="Show the queue and act on it by hand.")
    shared = _Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.set_defaults(actor=getpass.getuser())
    large = _Parser(add_help=False)
    large.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    named = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, act: commands.Act, help: str, is_large: bool = False) -> _Parser:
        parents = [shared, large] if is_large else [shared]
        added = named.add_parser(name, help=help, description=help, parents=parents)
        added.set_defaults(act=act)
        return added

    examine = command("doctor", _doctor, "check the database, Twilio and, with --stack, AWS")
    examine.add_argument("--stack", metavar="NAME", help="a stack of AWS: its settings take the place of the variables")
    command("status", commands.status, "show the figures of the queue, holds and parked messages")
    _messages(command)
    _limits(command)
    _people(command)
    return parser


def _messages(command: Command) -> None:
    """The commands on one message, or on many."""
    show = command("show", commands.show, "show one message and its story")
    show.add_argument("--numbers", action="store_true", help="with number and text; the request is recorded")
    retry = command("retry", commands.retry, "make one message due now")
    retry.add_argument("--force", action="store_true", help="even if it may have been sent already")
    cancel = command("cancel", commands.cancel, "cancel one message")
    for one in (show, retry, cancel):
        one.add_argument("message_id", type=_id, metavar="ID")
    requeue = command("requeue", commands.requeue, "give all messages that failed of one cause one more try", True)
    cause = requeue.add_mutually_exclusive_group(required=True)
    cause.add_argument("code", nargs="?", type=_code, metavar="CODE", help=f"a code of Twilio, or {commands.NO_CODE}")
    cause.add_argument("--reason", metavar="REASON", help="the reason that show prints, such as unlisted or no_code")
    requeue.add_argument(
        "--since", type=_since, required=True, metavar="WHEN", help="2h (ago), or 2026-01-31T09:00+00:00"
    )
    batch = command("batch", commands.batch, "show how far a batch is, cancel it, or hold it", True)
    batch.add_argument("batch", metavar="NAME")
    act = batch.add_mutually_exclusive_group()
    act.add_argument("--cancel", action="store_true", help="cancel every message that waits; no message is sent again")
    act.add_argument("--hold", dest="wait", type=_duration, metavar="TIME", help="set a hold on the batch, such as 2h")
    act.add_argument("--release", action="store_true", help="clear the hold on the batch")
    doubt = command("doubt", commands.doubt, "after a restore: ask Twilio before a message is sent again", True)
    doubt.add_argument("--since", type=_since, required=True, metavar="WHEN", help="the time of the restored data")


def _limits(command: Command) -> None:
    """The commands on holds, senders, budgets and usage."""
    hold = command("hold", commands.hold, "set a hold: send nothing in its scope for some time")
    release = command("release", commands.clear_hold, "clear a hold")
    names = "a subaccount, a sender, a prefix such as +44, a number, a business or a batch"
    for each in (hold, release):
        each.add_argument("scope", choices=KEYS)
        each.add_argument("key", nargs="?", default="*", help=f"{names}; without it, the main account or TWILIO_SENDER")
    hold.add_argument("--for", dest="wait", type=_duration, required=True, metavar="TIME", help="such as 30m, 2h, 7d")
    hold.add_argument("--reason", default="by hand")
    command("senders", commands.senders, "list the senders with their business, pace and subaccount")
    sender = command("sender", commands.set_sender, "add a sender, or replace its business, pace and subaccount")
    sender.add_argument("sender", metavar="SENDER", help="a number, a short code, a name, MG..., or * (TWILIO_SENDER)")
    sender.add_argument("--business", metavar="ID", help="the business whose default it is")
    sender.add_argument("--pace", type=_pace, metavar="N", help="segments a second; without it, no pace")
    sender.add_argument("--account", metavar="NAME", help="its subaccount in the Twilio secret")
    command("budgets", commands.budgets, "show the budgets and their spent segments")
    budget = command("budget", commands.set_budget, "set a budget of segments: messages beyond it wait")
    budget.add_argument("of", choices=("account", "business", "country", "kind"))
    budget.add_argument("key", help="* or a subaccount, a business, a prefix such as +44, or a kind")
    amount = budget.add_mutually_exclusive_group(required=True)
    amount.add_argument("--segments", type=_amount, metavar="N", help="as Twilio bills them")
    amount.add_argument("--remove", dest="segments", action="store_const", const=None)
    budget.add_argument(
        "--per", type=_duration, default=timedelta(days=1), metavar="TIME", help="such as 1h or 30d; default: 1d"
    )
    usage = command("usage", commands.usage, "show segments, delivery rates and times to delivery, with an estimate")
    usage.add_argument("--since", type=_ago, default=timedelta(days=30), metavar="TIME", help="such as 30d (ago)")
    names_of_rows = ("day", "business", "sender", "country", "kind", "code")
    usage.add_argument("--by", choices=names_of_rows, default="day", help="default: day (UTC)")
    usage.add_argument("--prices", type=Path, metavar="FILE", help="CSV lines such as +44,0.0463 (price of a segment)")


def _people(command: Command) -> None:
    """The commands on a person."""
    opt_out = command("opt-out", commands.set_consent, "record that a person has opted out")
    opt_in = command("opt-in", commands.set_consent, "record that a person has opted in")
    for opt, consent in ((opt_out, "opted_out"), (opt_in, "opted_in")):
        opt.set_defaults(consent=consent)
        opt.add_argument("--business", default="*", metavar="ID", help="for one business; without it, for every one")
    erase = command("erase", commands.erase, "erase a person and every message to this person", True)
    export = command("export", commands.export, "print all that is known of a person as JSON; the request is recorded")
    for each in (opt_out, opt_in, erase, export):
        each.add_argument(
            "number", nargs="?", type=_number, metavar="NUMBER", help="without it, the number is asked for or read"
        )


def _id(text: str) -> int:
    return _whole(text, 2**63 - 1)


def _code(text: str) -> int | str:
    return text if text == commands.NO_CODE else _whole(text, 2**31 - 1)


def _whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= most):
        raise argparse.ArgumentTypeError(f"it must be a whole number from 1 to {most}")
    return int(text)


def _pace(text: str) -> Decimal:
    try:
        pace = Decimal(text)
    except InvalidOperation:
        pace = Decimal(0)
    if not (pace.is_finite() and pace > 0):
        raise argparse.ArgumentTypeError("it must be a number above 0")
    return pace


def _amount(text: str) -> int:
    return 0 if text == "0" else _whole(text, 2**31 - 1)


def _number(text: str) -> str:
    number = numbers.from_text(text)
    if number is None:
        raise argparse.ArgumentTypeError("it must be a number such as +14155550123")
    return number


def _duration(text: str) -> timedelta:
    if not (match := DURATION.fullmatch(text)):
        raise argparse.ArgumentTypeError("it must be a duration such as 30m, 2h or 7d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def _since(text: str) -> datetime:
    if DURATION.fullmatch(text):
        return datetime.now(UTC) - _ago(text)
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        # At the ends of the calendar an instant with an offset has no time in UTC.
        pass
    raise argparse.ArgumentTypeError("it must be a duration such as 2h, or an instant with its UTC offset")


def _ago(text: str) -> timedelta:
    ago = _duration(text)
    try:
        datetime.now(UTC) - ago
    except OverflowError:
        raise argparse.ArgumentTypeError("it is too long ago") from None
    return ago


if __name__ == "__main__":
    sys.exit(main())

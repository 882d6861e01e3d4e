"""`python -m sms_retry doctor`: checks the database, Twilio and, with `--stack`, AWS. It changes and sends nothing.

Each world has two modules: one gathers facts, and one gives verdicts from the facts alone.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

from sms_retry import commands, conninfo, runtime, settings, terminal
from sms_retry.doctor import aws, database, look_at_aws, look_at_database, look_at_twilio, twilio
from sms_retry.doctor.finding import CANNOT_LOOK, Finding, reason
from sms_retry.settings import SettingsError

# The exceptions of a fault in the environment, a secret or the network.
FAULTS = (*CANNOT_LOOK, GetParameterError, SettingsError)


def doctor(given: Namespace) -> commands.Result:
    findings = list(examine(os.environ, given.stack))
    wrong = sum(finding.level == "wrong" for finding in findings)
    facts = {"wrong": wrong, "checks": [asdict(finding) for finding in findings]}
    return commands.Result(facts, terminal.checks(findings), code=1 if wrong else 0)


def examine(environ: Mapping[str, str], stack: str | None = None) -> Iterator[Finding]:
    """Every finding. With a stack, its functions' variables take the place of those of `environ`."""
    own: dict[str, str] = {}
    if stack:
        try:
            found, deployed, own = look_at_aws.look(stack)
            environ = {**environ, **deployed}
            yield from aws.judge(found)
        except FAULTS as error:
            yield _unreached(f"aws: stack {stack}", error, "Check its name, the region and your permissions.")
            return
    yield from _database(environ)
    yield from _twilio(environ, own)


def _database(environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        found = look_at_database.look(_conninfo(environ), wanted=settings.most_workers(environ) + 2)
    except FAULTS as error:
        do = (
            "Check DATABASE_URL or the secret, the network and the server. A database in a VPC is seen from there only."
        )
        yield _unreached("database: connection", error, do)
        return
    yield Finding("database: connection", "ok", f"{found.user} is connected to {found.name}.")
    yield from database.judge(found)


def _twilio(environ: Mapping[str, str], stage: Mapping[str, str]) -> Iterator[Finding]:
    try:
        given = settings.twilio(environ, stage)
        credentials = runtime.credentials(given.account)
        accounts = look_at_twilio.accounts(credentials, given.account.api_url)
        listed = [(given.sender.sender, None), *_senders(environ)]
        senders = look_at_twilio.senders(credentials, given.account.api_url, listed)
    except FAULTS as error:
        yield _unreached("twilio: settings", error, "Set the variables as the functions have them.")
        return
    yield from twilio.judge(accounts, senders, given.addresses)


def _senders(environ: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """The senders of the database; none where it cannot be reached, which another finding says."""
    try:
        return [each for each in look_at_database.senders(_conninfo(environ)) if each[0] != "*"]
    except FAULTS:
        return []


def _conninfo(environ: Mapping[str, str]) -> str:
    where = settings.database(environ)
    if where.url:
        return conninfo.from_url(where.url)
    return conninfo.from_secret(runtime.secret(where.secret_arn or ""))


def _unreached(check: str, error: Exception, to_do: str) -> Finding:
    fact = str(error) if isinstance(error, SettingsError) else reason(error)
    return Finding(check, "wrong", f"{fact}.", to_do)

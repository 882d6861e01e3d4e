"""`make deploy-local`: `sam deploy` to an AWS account on this machine, where the schedule fires, until Ctrl-C."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from rich import box
from rich.console import Console
from rich.table import Table

from local.aws import build
from local.aws.account import Account, Say, account, stack_name
from local.postgres.server import postgres
from local.twilio.callbacks import post_callback
from local.twilio.stand_in import Behaviour, Callbacks

ENVIRONMENT = "dev"
BEHAVIOUR = Behaviour(callbacks=Callbacks(delay=2.0), latency=0.1)
TO, BODY = "+4917612345678", "Your table is ready."

HELP = """
The stack is deployed, until Ctrl-C. Its schedules fire every minute, every five, every fifteen, and at 03:00 UTC.

For the AWS CLI and SAM, in a shell of its own:
  export {shell}

Send a message now, or at the next minute:
  sam remote invoke SendSmsFunction --stack-name {stack} -e '{{"to": "{to}", "body": "{body}", "kind": "otp"}}'
  psql {database} -c "select sms_retry.queue_sms_retry('{to}', '{body}', kind => 'otp')"

Let Twilio fail, and see what it took:
  curl {twilio}/stand-in/plan -d '{{"to": "{to}", "steps": [{{"step": "refuse", "http_status": 429, "code": 20429}}]}}'
  curl {twilio}/stand-in/accepted

See what became of it, and what the Lambdas say:
  psql {database} -c "select id, status, retry_count, error_code from sms_retry.sms_messages"
  sam logs --stack-name {stack} --name ProcessRetriesFunction
"""


def deploy() -> int:
    """Runs until SIGINT or SIGTERM, and then takes the stack away; 1 where it cannot be deployed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    show = _Show()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _deploy(show)
    except (LookupError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class _Show:
    """A line for each step when it is done, and on a terminal what it is at meanwhile."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    @contextmanager
    def step(self, what: str) -> Iterator[Say]:
        started = time.monotonic()
        with self.console.status(what) as status:
            yield lambda line: status.update(f"{what}  [dim]{line[:60]}[/]" if line else what)
        self.console.print(f"[green]✓[/] {what}  [dim]{time.monotonic() - started:.0f} s[/]")

    def note(self, what: str) -> None:
        self.console.print(f"  {what}", soft_wrap=True, markup=False)


def _deploy(show: _Show) -> None:
    with contextlib.ExitStack() as up:
        with show.step("PostgreSQL, a Twilio and an empty AWS account"):
            server = up.enter_context(postgres())
            here = up.enter_context(account(BEHAVIOUR))
            secret = here.keep_database("database", server.url)
            before = here.holdings()
        with show.step(f"sam build, for {build.ARCHITECTURE}"):
            here.build()
        with show.step("sam deploy") as say:
            outputs = here.deploy(ENVIRONMENT, secret, say)
        events = here.events(ENVIRONMENT)
        made = sum(event.endswith("CREATE_COMPLETE") for event in events)
        show.note(f"{made - 1} resources and the stack; callbacks come in at {outputs['CallbacksUrl']}")
        with show.step("sam build and sam deploy again") as say:
            here.build()
            here.deploy(ENVIRONMENT, secret, say)
        show.note(f"{len(here.events(ENVIRONMENT)) - len(events)} changes")
        _first_minute(show, here, server.url)
        _forge(show, here, outputs["CallbacksUrl"])
        show.console.print(_help(here, server.url), soft_wrap=True, markup=False)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                signal.pause()
        with show.step("sam delete") as say:
            here.delete(ENVIRONMENT, say)
        show.note("left: " + (", ".join(sorted(here.holdings() - before)) or "nothing"))


def _first_minute(show: _Show, here: Account, database_url: str) -> None:
    """A message that is queued now is sent by the schedule, and Twilio's receipt finds its way back."""
    with psycopg.connect(database_url, autocommit=True) as db:
        row = db.execute("select sms_retry.queue_sms_retry(%s, %s, kind => 'otp')", [TO, BODY]).fetchone()
        with show.step("a message waits for the schedule's next minute, and for its receipts"):
            while db.execute("select status from sms_retry.sms_messages where id = %s", row).fetchone() != (
                "delivered",
            ):
                time.sleep(0.1)
        table = Table(box=box.SIMPLE, show_header=False)
        for at, what, sid in db.execute("select at, what, message_sid from sms_retry.sms_message_story(%s)", row):
            table.add_row(f"{at:%H:%M:%S}", what, sid or "")
    show.console.print(table)


def _forge(show: _Show, here: Account, callbacks_url: str) -> None:
    with show.step("somebody who is not Twilio posts a receipt"):
        form = {"MessageSid": here.twilio.accepted()[0].sid or "", "MessageStatus": "failed"}
        [answer, *_] = post_callback(f"{callbacks_url}/twilio/status", form, "a guess", here.twilio.route)
    show.note(f"the webhook answers {answer}")


def _help(here: Account, database_url: str) -> str:
    shell = shlex.join(f"{name}={value}" for name, value in here.aws.shell.items())
    places = {"stack": stack_name(ENVIRONMENT), "database": database_url, "twilio": here.twilio.url}
    return HELP.format(shell=shell, to=TO, body=BODY, **places)

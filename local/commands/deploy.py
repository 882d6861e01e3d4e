"""`make deploy-local`: `sam deploy` to an AWS account on this machine. The schedules run until Ctrl-C."""

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
The stack is deployed until Ctrl-C. Its schedules run every minute, every 5 and 15 minutes, and every hour.

For the AWS CLI and SAM, in another shell:
  export {shell}

Send a message now, or at the next minute:
  sam remote invoke SendSmsFunction --stack-name {stack} -e '{{"to": "{to}", "body": "{body}", "kind": "otp"}}'
  psql {database} -c "select sms_retry.queue_sms_retry('{to}', '{body}', kind => 'otp')"

Let Twilio fail, and see which messages it accepted:
  curl {twilio}/stand-in/plan -d '{{"to": "{to}", "steps": [{{"step": "refuse", "http_status": 429, "code": 20429}}]}}'
  curl {twilio}/stand-in/accepted

See its status, and the logs of a Lambda:
  psql {database} -c "select id, status, retry_count, error_code from sms_retry.sms_messages"
  sam logs --stack-name {stack} --name ProcessRetriesFunction
"""


def deploy() -> int:
    """Run until SIGINT or SIGTERM, then delete the stack. Returns the exit code: 0, or 1 if it cannot be deployed."""
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
    """Prints a line for each completed step, and on a terminal the progress of the present step."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    @contextmanager
    def step(self, name: str) -> Iterator[Say]:
        started = time.monotonic()
        with self.console.status(name) as status:
            yield lambda line: status.update(f"{name}  [dim]{line[:60]}[/]" if line else name)
        self.console.print(f"[green]✓[/] {name}  [dim]{time.monotonic() - started:.0f} s[/]")

    def note(self, text: str) -> None:
        self.console.print(f"  {text}", soft_wrap=True, markup=False)


def _deploy(show: _Show) -> None:
    with contextlib.ExitStack() as up:
        with show.step("start PostgreSQL, the Twilio stand-in and an empty AWS account"):
            server = up.enter_context(postgres())
            here = up.enter_context(account(BEHAVIOUR))
            secret = here.create_database_secret("database", server.url)
            before = here.resources()
        with show.step(f"sam build, for {build.ARCHITECTURE}"):
            here.build()
        with show.step("sam deploy") as say:
            outputs = here.deploy(ENVIRONMENT, secret, say)
        events = here.events(ENVIRONMENT)
        created = sum(event.endswith("CREATE_COMPLETE") for event in events)
        show.note(f"{created - 1} resources and the stack; the URL for callbacks is {outputs['CallbacksUrl']}")
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
        show.note("resources left: " + (", ".join(sorted(here.resources() - before)) or "none"))


def _first_minute(show: _Show, here: Account, database_url: str) -> None:
    """Queue a message and wait until the schedule has sent it and its receipt has arrived; print its story."""
    with psycopg.connect(database_url, autocommit=True) as db:
        row = db.execute("select sms_retry.queue_sms_retry(%s, %s, kind => 'otp')", [TO, BODY]).fetchone()
        with show.step("queue a message; wait for the next run of the schedule and for the receipts"):
            while db.execute("select status from sms_retry.sms_messages where id = %s", row).fetchone() != (
                "delivered",
            ):
                time.sleep(0.1)
        table = Table(box=box.SIMPLE, show_header=False)
        for at, what, sid in db.execute("select at, what, message_sid from sms_retry.sms_message_story(%s)", row):
            table.add_row(f"{at:%H:%M:%S}", what, sid or "")
    show.console.print(table)


def _forge(show: _Show, here: Account, callbacks_url: str) -> None:
    with show.step("post a forged receipt"):
        form = {"MessageSid": here.twilio.accepted()[0].sid or "", "MessageStatus": "failed"}
        [answer, *_] = post_callback(f"{callbacks_url}/twilio/status", form, "a guess", here.twilio.route)
    show.note(f"the webhook answers {answer}")


def _help(here: Account, database_url: str) -> str:
    shell = shlex.join(f"{name}={value}" for name, value in here.aws.shell.items())
    places = {"stack": stack_name(ENVIRONMENT), "database": database_url, "twilio": here.twilio.url}
    return HELP.format(shell=shell, to=TO, body=BODY, **places)

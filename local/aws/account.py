"""An AWS account on this machine that our stacks are deployed to, by SAM alone, and a Twilio for them to send to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from local.aws import build
from local.aws.container import ROOT
from local.aws.ministack import Ministack, ministack
from local.stack import ENVIRONMENT
from local.twilio.stand_in import Behaviour, TwilioStandIn

# What lists all that the template can make: service, operation, and where in its answer the names are.
LISTS = (
    ("apigatewayv2", "get_apis", "Items[].ApiId"),
    ("cloudformation", "describe_stacks", "Stacks[].StackName"),
    ("cloudwatch", "describe_alarms", "MetricAlarms[].AlarmArn"),
    ("cloudwatch", "list_dashboards", "DashboardEntries[].DashboardArn"),
    ("iam", "list_roles", "Roles[].Arn"),
    ("lambda", "list_functions", "Functions[].FunctionArn"),
    ("lambda", "list_layers", "Layers[].LayerArn"),
    ("logs", "describe_log_groups", "logGroups[].logGroupName"),
    ("scheduler", "list_schedules", "Schedules[].Arn"),
    ("sns", "list_topics", "Topics[].TopicArn"),
    ("sqs", "list_queues", "QueueUrls[]"),
)
Say = Callable[[str], object]


@contextmanager
def account(behaviour: Behaviour | None = None) -> Iterator[Account]:
    """An account with nothing in it but the secret of a Twilio, which posts its callbacks by itself.

    LookupError: this machine has no Python 3.13.
    """
    login = {"account_sid": ENVIRONMENT["TWILIO_ACCOUNT_SID"], "auth_token": ENVIRONMENT["TWILIO_AUTH_TOKEN"]}
    with ministack(build.environment("aws")) as aws, TwilioStandIn(behaviour, **login) as twilio:
        yield Account(aws, twilio, aws.folder / "build", aws.keep_secret("twilio", login))


@dataclass(frozen=True)
class Account:
    """What is up. `built` is where `sam build` leaves this checkout."""

    aws: Ministack
    twilio: TwilioStandIn
    built: Path
    twilio_secret: str

    def keep_database(self, name: str, url: str) -> str:
        """The ARN of a secret that leads a Lambda to the database.

        Our Lambdas ask for TLS, which the embedded PostgreSQL has not: they go by its socket file, where libpq
        asks for none.
        """
        with psycopg.connect(url) as connection:
            row = connection.execute("show unix_socket_directories").fetchone()
            info = connection.info
            login = {"username": info.user, "password": info.password, "dbname": info.dbname, "port": info.port}
        return self.aws.keep_secret(name, login | {"host": (row and row[0]) or info.host})

    def build(self) -> None:
        build.sam_build(self.built)

    def deploy(self, environment: str, database_secret: str, say: Say = str, **parameters: str) -> dict[str, str]:
        """`make deploy` of what was built, as an environment of samconfig.toml; returns the stack's outputs.

        `say` is given each line as it is printed. Raises RuntimeError, with the last lines, where the deployment fails.
        """
        parameters = {
            "Architecture": build.ARCHITECTURE,
            "DatabaseSecretArn": database_secret,
            "GradualDeployment": "false",
            "TwilioApiUrl": self.twilio.url,
            "TwilioSecretArn": self.twilio_secret,
            "TwilioSender": ENVIRONMENT["TWILIO_SENDER"],
            **parameters,
        }
        given = [f"{name}={value}" for name, value in parameters.items()]
        command = [sys.executable, "-m", "deploy", environment, "--yes", "--built", str(self.built)]
        self._run(say, *command, *given)
        outputs = self.outputs(environment)
        # Its host resolves to loopback only where a resolver knows names under localhost.
        self.twilio.route[outputs["CallbacksUrl"]] = self.aws.url
        return outputs

    def delete(self, environment: str, say: Say = str) -> None:
        config = ["--config-file", str(ROOT / "samconfig.toml"), "--config-env", environment]
        self._run(say, "sam", "delete", *config, "--no-prompts")

    def outputs(self, environment: str) -> dict[str, str]:
        found = self.aws.client("cloudformation").describe_stacks(StackName=stack_name(environment))["Stacks"][0]
        return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}

    def events(self, environment: str) -> list[str]:
        """What CloudFormation has done to the stack, such as `Migration CREATE_COMPLETE`, the latest first."""
        pages = self.aws.client("cloudformation").get_paginator("describe_stack_events")
        found = pages.paginate(StackName=stack_name(environment)).search("StackEvents[]")
        return [f"{event['LogicalResourceId']} {event['ResourceStatus']}" for event in found]

    def holdings(self) -> set[str]:
        """The name or ARN of each resource, by the service that lists it.

        SAM's own bucket is left out: it stays, as on AWS. Its objects are listed: a stack needs them for a rollback.
        """
        held: set[str] = set()
        for service, operation, names in LISTS:
            pages = self.aws.client(service).get_paginator(operation).paginate()
            held |= {f"{service} {name}" for name in pages.search(names) if name}
        s3 = self.aws.client("s3")
        for bucket in (each["Name"] for each in s3.list_buckets()["Buckets"]):
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            held |= {f"s3 {key}" for key in pages.search("Contents[].Key") if key}
        return held - {"cloudformation aws-sam-cli-managed-default"}

    def _run(self, say: Say, *command: str) -> None:
        last: deque[str] = deque(maxlen=40)
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._shell(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as running:
            for line in running.stdout or ():
                last.append(line.rstrip())
                say(line.strip())
        if running.returncode:
            raise RuntimeError("\n".join([f"{command[0]} failed:", *last]))

    def _shell(self) -> dict[str, str]:
        """Nothing in it leads to an AWS account that is somebody's own."""
        ours = {name: value for name, value in build.SHELL.items() if not name.startswith("AWS_")}
        nobodys = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
        return ours | nobodys | self.aws.shell | {"PYTHONUNBUFFERED": "1", "SAM_CLI_POLL_DELAY": "1"}


def stack_name(environment: str) -> str:
    """As in samconfig.toml."""
    return f"sms-retry-{environment}"

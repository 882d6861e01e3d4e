"""An AWS account on this machine, to which SAM deploys our stacks, and a Twilio stand-in to which they send."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy.section import read_template
from local.aws import build
from local.aws.container import ROOT
from local.aws.ministack import Ministack, ministack
from local.stack import ENVIRONMENT
from local.twilio.stand_in import Behaviour, TwilioStandIn

# How to list every resource that the template can create: service, operation, and the path of the names in its answer.
LISTS = (
    ("apigatewayv2", "get_apis", "Items[].ApiId"),
    ("cloudformation", "describe_stacks", "Stacks[].StackName"),
    ("cloudwatch", "describe_alarms", "MetricAlarms[].AlarmArn"),
    ("cloudwatch", "list_dashboards", "DashboardEntries[].DashboardArn"),
    ("ec2", "describe_security_groups", "SecurityGroups[].GroupId"),
    ("iam", "list_roles", "Roles[].Arn"),
    ("lambda", "list_functions", "Functions[].FunctionArn"),
    ("lambda", "list_layers", "Layers[].LayerArn"),
    ("logs", "describe_log_groups", "logGroups[].logGroupName"),
    ("rds", "describe_db_cluster_parameter_groups", "DBClusterParameterGroups[].DBClusterParameterGroupName"),
    ("rds", "describe_db_clusters", "DBClusters[].DBClusterArn"),
    ("rds", "describe_db_instances", "DBInstances[].DBInstanceArn"),
    ("rds", "describe_db_subnet_groups", "DBSubnetGroups[].DBSubnetGroupName"),
    ("scheduler", "list_schedules", "Schedules[].Arn"),
    ("sns", "list_topics", "Topics[].TopicArn"),
    ("sqs", "list_queues", "QueueUrls[]"),
)
Say = Callable[[str], object]


@contextmanager
def account(behaviour: Behaviour | None = None) -> Iterator[Account]:
    """An account that holds only the Twilio secret, and a stand-in that posts its callbacks when they are due.

    Raises LookupError if this machine has no Python 3.13.
    """
    login = {"account_sid": ENVIRONMENT["TWILIO_ACCOUNT_SID"], "auth_token": ENVIRONMENT["TWILIO_AUTH_TOKEN"]}
    with ministack(build.environment("aws")) as aws, TwilioStandIn(behaviour, **login) as twilio:
        yield Account(aws, twilio, aws.folder / "build", aws.create_secret("twilio", login))


@dataclass(frozen=True)
class Account:
    """The running parts. `built` is the folder of `sam build`."""

    aws: Ministack
    twilio: TwilioStandIn
    built: Path
    twilio_secret: str

    def create_database_secret(self, name: str, url: str) -> str:
        """Create the database secret of a stack and return its ARN.

        The Lambdas demand TLS, which the embedded PostgreSQL lacks: the secret names its socket file, for which
        libpq uses no TLS.
        """
        with psycopg.connect(url) as connection:
            row = connection.execute("show unix_socket_directories").fetchone()
            info = connection.info
            login = {"username": info.user, "password": info.password, "dbname": info.dbname, "port": info.port}
        return self.aws.create_secret(name, login | {"host": (row and row[0]) or info.host})

    def lead_databases_to(self, url: str, master: str) -> None:
        """The database that a stack creates from now on is on the server of `url`, with `master` as its master user."""
        with psycopg.connect(url) as connection:
            row = connection.execute("show unix_socket_directories").fetchone()
            place = {"host": connection.info.host, "port": connection.info.port, "socket": row and row[0]}
        (self.aws.folder / "postgres.json").write_text(json.dumps(place | {"master": master}))

    def build(self) -> None:
        build.sam_build(self.built)
        # JSON is YAML too. `sam deploy` reads the template seven times, JSON many times faster.
        template = self.built / "template.yaml"
        template.write_text(json.dumps(read_template(template)))

    def deploy(self, environment: str, database_secret: str, say: Say = str, **parameters: str) -> dict[str, str]:
        """Run `make deploy` of the built template for an environment of samconfig.toml; returns the stack's outputs.

        `say` is called with each line that SAM prints. Raises RuntimeError, with the last lines, if SAM fails.
        """
        parameters = {
            "Architecture": build.ARCHITECTURE,
            "DatabaseSecretArn": database_secret,
            "GradualDeployment": "false",
            "LingerSeconds": "0",
            "OnlyTo": "",
            "TwilioApiUrl": self.twilio.url,
            "TwilioSecretArn": self.twilio_secret,
            "TwilioSender": ENVIRONMENT["TWILIO_SENDER"],
            **parameters,
        }
        given = [f"{name}={value}" for name, value in parameters.items()]
        command = [sys.executable, "-m", "deploy", environment, "--yes", "--built", str(self.built)]
        self._run(say, *command, *given)
        outputs = self.outputs(environment)
        # The host of the URL is a name under localhost, which not every resolver knows.
        self.twilio.route[outputs["CallbacksUrl"]] = self.aws.url
        return outputs

    def delete(self, environment: str, say: Say = str) -> None:
        config = ["--config-file", str(ROOT / "samconfig.toml"), "--config-env", environment]
        self._run(say, "sam", "delete", *config, "--no-prompts")

    def outputs(self, environment: str) -> dict[str, str]:
        found = self.aws.client("cloudformation").describe_stacks(StackName=stack_name(environment))["Stacks"][0]
        return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}

    def events(self, environment: str) -> list[str]:
        """The stack's CloudFormation events, such as `Migration CREATE_COMPLETE`, newest first."""
        pages = self.aws.client("cloudformation").get_paginator("describe_stack_events")
        found = pages.paginate(StackName=stack_name(environment)).search("StackEvents[]")
        return [f"{event['LogicalResourceId']} {event['ResourceStatus']}" for event in found]

    def resources(self) -> set[str]:
        """The name or ARN of each resource, by the service that lists it.

        SAM's own bucket is left out: it stays, as on AWS. Its objects are listed: a stack needs them for a rollback.
        """
        found: set[str] = set()
        for service, operation, names in LISTS:
            pages = self.aws.client(service).get_paginator(operation).paginate()
            found |= {f"{service} {name}" for name in pages.search(names) if name}
        # An operation without pages.
        found |= {f"events {bus['Arn']}" for bus in self.aws.client("events").list_event_buses()["EventBuses"]}
        s3 = self.aws.client("s3")
        for bucket in (each["Name"] for each in s3.list_buckets()["Buckets"]):
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            found |= {f"s3 {key}" for key in pages.search("Contents[].Key") if key}
        return found - {"cloudformation aws-sam-cli-managed-default"}

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
        """The environment of SAM. It contains no credentials of a real AWS account."""
        ours = {name: value for name, value in build.SHELL.items() if not name.startswith("AWS_")}
        no_profile = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
        return ours | no_profile | self.aws.shell | {"PYTHONUNBUFFERED": "1", "SAM_CLI_POLL_DELAY": "0.2"}


def stack_name(environment: str) -> str:
    """As in samconfig.toml."""
    return f"sms-retry-{environment}"

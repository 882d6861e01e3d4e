"""`sam deploy` to an AWS account on this machine: what was built goes out, the schedule fires, and nothing is left.

What the account lacks, and how it is made good, is in local/aws/ministack_gaps.py.
"""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError

from deploy.section import read_template
from local.aws import build
from local.aws.account import Account, account
from local.aws.container import ROOT
from local.postgres.server import Server
from local.stack import ENVIRONMENT
from local.twilio.callbacks import post_callback
from local.twilio.stand_in import Accept, Behaviour, Callbacks
from local.waiting import wait_until
from sms_retry import doctor, worker
from sms_retry.doctor import look_at_aws
from tests.e2e.messages import BODY, PEOPLE, message, number
from tests.unit.test_deploy import BROKEN, FILLED_IN

# Deployed once, on one worker of those that pytest-xdist groups tests for.
pytestmark = pytest.mark.xdist_group("deploy")

NOWHERE = {"host": "/nowhere", "port": 5432, "username": "nobody", "password": "", "dbname": "none"}
# To a worker with one message in flight little is a backlog: half as much again as it sends in its time.
ONE_IN_FLIGHT = {"SendConcurrency": "1"}
BACKLOG = [number(n) for n in range(int(1.5 * worker.CLAIMING / worker.USUAL_SEND))]
PERSON = len(BACKLOG)
# Seconds. A minute, and time to start in on a machine that has other things to do.
SOON = 240


@dataclass(frozen=True)
class Deployed:
    """The stack of the environment dev, as `sam deploy` left it, with its database."""

    outputs: dict[str, str]
    database_secret: str
    db: psycopg.Connection

    def statuses(self, people: list[str]) -> Counter[str]:
        statement = "select status from sms_retry.sms_messages where to_number = any(%s)"
        return Counter(status for (status,) in self.db.execute(statement, [people]))


@pytest.fixture(scope="module")
def here() -> Iterator[Account]:
    """A Twilio that posts a receipt only where a test says so: each would be a container more at the same moment."""
    try:
        build.environment("aws")
    except LookupError as missing:
        pytest.skip(str(missing))
    with account(Behaviour(callbacks=Callbacks(lost=1.0))) as here:
        here.build()
        yield here


@pytest.fixture(scope="module")
def deployed(here: Account, server: Server) -> Iterator[Deployed]:
    """A backlog waits for the first minute of the schedule."""
    url = server.create_database("sms_retry_deployed")
    secret = here.create_database_secret("deployed", url)
    outputs = here.deploy("dev", secret, **ONE_IN_FLIGHT)
    here.twilio.plan(BACKLOG[-1], Accept(callbacks=Callbacks()))
    with psycopg.connect(url, autocommit=True) as db:
        queue = "select sms_retry.queue_sms_retry(person, %s, kind => 'otp') from unnest(%s::text[]) person"
        db.execute(queue, [BODY, BACKLOG])
        yield Deployed(outputs, secret, db)


def functions(here: Account, environment: str = "dev") -> dict[str, str]:
    """The folders of the functions that are deployed as an environment, and their aliases."""
    found = here.aws.client("lambda").list_functions()["Functions"]
    groups = {each["LoggingConfig"]["LogGroup"]: f"{each['FunctionArn']}:live" for each in found}
    own = f"/aws/lambda/sms-retry-{environment}/"
    return {group.removeprefix(own): alias for group, alias in groups.items() if group.startswith(own)}


def invoke(here: Account, alias: str, event: object) -> dict[str, Any]:
    answer = here.aws.client("lambda").invoke(FunctionName=alias, Payload=json.dumps(event))
    returned = json.load(answer["Payload"])
    assert "FunctionError" not in answer, returned
    return dict(returned)


def versions(here: Account) -> dict[str, str]:
    of = here.aws.client("lambda").get_alias
    return {
        function: of(FunctionName=alias.removesuffix(":live"), Name="live")["FunctionVersion"]
        for function, alias in functions(here).items()
    }


def logged(here: Account) -> list[str]:
    logs = here.aws.client("logs")
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    pages = logs.get_paginator("filter_log_events")
    return [event["message"] for group in groups for event in pages.paginate(logGroupName=group).search("events[]")]


def services(here: Account) -> set[str]:
    """The service that each health check counted for. A Lambda logs its metrics at its end."""
    return {json.loads(line)["service"] for line in logged(here) if '"PendingMessages"' in line}


def test_the_account_listens_on_loopback_only(here: Account) -> None:
    # A socket that is bound to every address answers at this one too.
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", here.aws.port))


@pytest.mark.parametrize(("given", "words"), BROKEN)
def test_cloudformation_refuses_parameters_that_break_a_rule(here: Account, given: dict[str, str], words: str) -> None:
    # The rules of the template, with a queue as the stack. `make deploy` refuses these parameters with the same words.
    template = read_template(ROOT / "template.yaml")
    queue = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    body = json.dumps({name: template[name] for name in ("Parameters", "Rules")} | queue)
    values = [{"ParameterKey": name, "ParameterValue": value} for name, value in {**FILLED_IN, **given}.items()]
    with pytest.raises(ClientError, match=re.escape(words)):
        here.aws.client("cloudformation").create_stack(StackName="rules", TemplateBody=body, Parameters=values)


def test_an_application_sends_through_the_alias(here: Account, deployed: Deployed) -> None:
    sent = invoke(here, deployed.outputs["SendSmsArn"], message(PERSON))

    assert sent["status"] == "sent"
    assert [post.to for post in here.twilio.posts()].count(number(PERSON)) == 1


@pytest.mark.parametrize("function", ["cleanup_retries", "health_check", "migrate", "reconcile", "retry_sms"])
def test_a_role_allows_what_its_function_does(here: Account, deployed: Deployed, function: str) -> None:
    event = json.loads((ROOT / "tests" / "events" / f"{function}.json").read_text())

    assert invoke(here, functions(here)[function], event)


def test_the_webhook_accepts_only_callbacks_that_twilio_signed(here: Account, deployed: Deployed) -> None:
    to = number(PERSON + 1)
    sent = invoke(here, deployed.outputs["SendSmsArn"], message(PERSON + 1))
    form = {"MessageSid": sent["provider_sid"], "MessageStatus": "delivered", "To": to, "ErrorCode": ""}
    url = f"{deployed.outputs['CallbacksUrl']}/twilio/status"

    assert post_callback(url, form, "a guess", here.twilio.route) == (403,)
    assert post_callback(url, form, here.twilio.auth_token, here.twilio.route) == (204,)
    assert deployed.statuses([to]) == {"delivered": 1}


def test_a_failed_send_leaves_its_request_id_and_neither_number_nor_text(here: Account, deployed: Deployed) -> None:
    # The record that Lambda puts on the bus, which this account does not:
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    arn = deployed.outputs["SendSmsArn"]
    request = {"requestId": "c2a6f2ae-7dbb", "functionArn": arn, "condition": "RetriesExhausted"}
    record = {
        "version": "1.0",
        "timestamp": "2026-06-01T12:00:00.000Z",
        "requestContext": {**request, "approximateInvokeCount": 1},
        "requestPayload": message(PERSON),
        "responseContext": {"statusCode": 200, "executedVersion": "1", "functionError": "Unhandled"},
        "responsePayload": {"errorType": "OperationalError", "errorMessage": BODY},
    }
    [bus] = here.aws.client("events").list_event_buses(NamePrefix="sms-retry-dev")["EventBuses"]
    entry = {
        "Source": "lambda",
        "DetailType": "Lambda Function Invocation Result - Failure",
        "EventBusName": bus["Arn"],
    }
    here.aws.client("events").put_events(Entries=[{**entry, "Detail": json.dumps(record)}])

    sqs, letters = here.aws.client("sqs"), deployed.outputs["DeadLettersUrl"]
    [letter] = sqs.receive_message(QueueUrl=letters, WaitTimeSeconds=10)["Messages"]
    sqs.delete_message(QueueUrl=letters, ReceiptHandle=letter["ReceiptHandle"])
    assert json.loads(letter["Body"]) == {"timestamp": record["timestamp"], "requestContext": request}


def test_a_second_deployment_changes_nothing(here: Account, deployed: Deployed) -> None:
    before = here.events("dev")

    here.deploy("dev", deployed.database_secret, **ONE_IN_FLIGHT)

    assert here.events("dev") == before


def test_a_change_to_a_layer_alone_reaches_every_alias_and_the_database(here: Account, deployed: Deployed) -> None:
    before = versions(here)
    with (here.built / "SmsRetryLayer" / "python" / "sms_retry" / "__init__.py").open("a") as module:
        module.write("# the next release\n")

    here.deploy("dev", deployed.database_secret, **ONE_IN_FLIGHT)

    assert set(before.values()) == {"1"}
    assert versions(here) == dict.fromkeys(before, "2")
    assert "Migration UPDATE_COMPLETE" in here.events("dev")


def test_the_doctor_of_the_stack_finds_a_stale_alias_and_a_disabled_schedule(
    here: Account, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in here.aws.shell.items():
        monkeypatch.setenv(name, value)
    # No name server knows the host of the address of this account.
    monkeypatch.setattr(look_at_aws, "_answer", lambda url: post_callback(url, {}, "a guess", here.twilio.route)[0])

    def wrong() -> set[str]:
        return {finding.check for finding in doctor.examine({}, "sms-retry-dev") if finding.level == "wrong"}

    # The account counts no invocations, and the server of the tests is not durable.
    before = wrong() - {"aws: ticks", "database: synchronous_commit"}
    client, alias = here.aws.client("lambda"), functions(here)["health_check"].removesuffix(":live")
    [schedule, *_] = here.aws.client("scheduler").list_schedules()["Schedules"]
    found = here.aws.client("scheduler").get_schedule(Name=schedule["Name"])
    kept = ("ScheduleExpression", "FlexibleTimeWindow", "Target", "Name")
    settings = {name: found[name] for name in kept}
    here.aws.client("scheduler").update_schedule(**settings, State="DISABLED")
    live = client.get_alias(FunctionName=alias, Name="live")["FunctionVersion"]
    described = client.get_function_configuration(FunctionName=alias)["Description"]
    client.update_function_configuration(FunctionName=alias, Description="Changed since.")
    newest = client.publish_version(FunctionName=alias)["Version"]
    try:
        assert wrong() - before >= {"aws: alias of HealthCheck", f"aws: schedule {schedule['Name']}"}
    finally:
        client.delete_function(FunctionName=alias, Qualifier=newest)
        client.update_function_configuration(FunctionName=alias, Description=described)
        here.aws.client("scheduler").update_schedule(**settings, State="ENABLED")
    assert newest != live
    # The stand-in has no number, and the topic no subscriber.
    assert before == {"aws: alarms", f"twilio: sender {ENVIRONMENT['TWILIO_SENDER']}"}


def test_a_failed_migration_rolls_its_deployment_back(here: Account, deployed: Deployed) -> None:
    before = here.resources()
    secret = here.aws.create_secret("nowhere", NOWHERE)

    with pytest.raises(RuntimeError, match="ROLLBACK_COMPLETE") as failed:
        here.deploy("staging", secret)
    said = str(failed.value)
    assert 'Migration: connection is bad: connection to server on socket "/nowhere/.s.PGSQL.5432" failed' in said
    assert "sam delete --stack-name sms-retry-staging" in said
    with pytest.raises(RuntimeError, match=r"its first deployment failed\. Delete the stack"):
        here.deploy("staging", deployed.database_secret)

    events = here.events("staging")
    assert "Migration CREATE_FAILED" in events
    assert not [event for event in events if event.startswith("ProcessRetriesFunction ")]
    here.delete("staging")
    assert here.resources() == before


def test_two_stacks_have_separate_metrics_and_one_can_be_deleted(
    here: Account, deployed: Deployed, server: Server
) -> None:
    before = here.resources()
    here.deploy("staging", here.create_database_secret("staging", server.create_database("sms_retry_staging")))
    assert here.resources() > before

    for environment in ("dev", "staging"):
        invoke(here, functions(here, environment)["health_check"], {})
    wait_until(lambda: services(here) == {"sms-retry-dev", "sms-retry-staging"}, SOON)

    here.delete("staging")

    assert here.resources() == before


def a_vpc(here: Account) -> tuple[str, str]:
    """A new VPC, and its subnets in two availability zones."""
    ec2 = here.aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.1.{n}.0/24", AvailabilityZone=f"eu-west-1{zone}")["Subnet"][
            "SubnetId"
        ]
        for n, zone in enumerate("ab")
    ]
    return vpc, ",".join(subnets)


def test_a_stack_creates_its_database_and_the_service_is_not_its_master_user(here: Account, server: Server) -> None:
    vpc, subnets = a_vpc(here)
    before = here.resources()
    url = server.create_database("sms_retry")
    with psycopg.connect(url, autocommit=True) as db:
        # As on RDS, where the master user is no superuser.
        db.execute("create role master login createdb createrole")
        db.execute("alter database sms_retry owner to master")
    here.lead_databases_to(url, "master")

    own = {"CreateDatabase": "true", "VpcId": vpc, "VpcSubnetIds": subnets}
    outputs = here.deploy("staging", "", **own)
    with pytest.raises(RuntimeError, match="VpcSubnetIds cannot change while the stack has its own database"):
        here.deploy("staging", "", **own | {"VpcSubnetIds": ",".join(reversed(subnets.split(",")))})
    here.deploy("staging", "", **own, MaxWorkers="2")
    sent = invoke(here, outputs["SendSmsArn"], message(PERSON + 3))

    assert sent["status"] == "sent"
    order = [event for event in reversed(here.events("staging")) if event.endswith(" CREATE_COMPLETE")]
    steps = ["DatabaseLogs", "DatabaseCluster", "DatabaseInstance", "DatabaseRole", "DatabaseProxyTargets", "Migration"]
    assert [event.split()[0] for event in order if event.split()[0] in steps] == steps
    with psycopg.connect(url) as db:
        rights = "select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = 'sms_retry'"
        assert db.execute(rights).fetchone() == (False, False, False)
        owners = "select distinct tableowner from pg_tables where schemaname = 'sms_retry'"
        assert db.execute(owners).fetchall() == [("sms_retry",)]
        assert db.execute("select to_number, status from sms_retry.sms_messages").fetchall() == [
            (number(PERSON + 3), "sent")
        ]
    here.delete("staging")
    # A tick that ends during the deletion writes its log again. On AWS its role may not create the group.
    assert here.resources() - {"logs /aws/lambda/sms-retry-staging/process_retries"} == before


def test_the_schedule_sends_what_is_due_and_calls_a_worker_to_a_backlog(here: Account, deployed: Deployed) -> None:
    wait_until(lambda: deployed.statuses(BACKLOG) == {"sent": len(BACKLOG) - 1, "delivered": 1}, SOON)

    posts = Counter(post.to for post in here.twilio.posts())
    assert {posts[person] for person in BACKLOG} == {1}
    # A Lambda logs its metrics at its end.
    wait_until(lambda: any('"CalledWorkers":[1.0]' in line for line in logged(here)), SOON)


def test_no_log_holds_a_number_a_text_or_a_token(here: Account, deployed: Deployed) -> None:
    # A Lambda logs its metrics at its end.
    wait_until(lambda: any("SuccessMessages" in line for line in logged(here)), SOON)

    lines = logged(here)
    for private in (PEOPLE, BODY, ENVIRONMENT["TWILIO_AUTH_TOKEN"]):
        assert not [line for line in lines if private in line]


def test_a_second_deployment_uses_its_changed_settings(here: Account, deployed: Deployed, server: Server) -> None:
    url, before = server.create_database("sms_retry_moved"), versions(here)
    to, sender = number(PERSON + 2), "+15005550009"
    address = {"PublicWebhookUrl": "https://sms.example.com", "FormerWebhookUrls": "https://old.example.com"}

    here.deploy("dev", here.create_database_secret("moved", url), **ONE_IN_FLIGHT, **address, TwilioSender=sender)
    sent = invoke(here, deployed.outputs["SendSmsArn"], message(PERSON + 2))

    assert sent["status"] == "sent"
    [post] = [post for post in here.twilio.posts() if post.to == to]
    assert post.form["From"] == sender
    assert post.form["StatusCallback"].startswith("https://sms.example.com/twilio/status?t=")
    # Twilio posts replies, and the receipts of earlier messages, to the API's own address until that is changed too.
    own, stop = deployed.outputs["CallbacksUrl"], {"MessageSid": "SM1", "From": to, "Body": "STOP"}
    assert post_callback(f"{own}/twilio/inbound", stop, here.twilio.auth_token, here.twilio.route) == (200,)
    with psycopg.connect(url) as moved:
        assert moved.execute("select to_number, status from sms_retry.sms_messages").fetchall() == [(to, "sent")]
    assert deployed.statuses([to]) == {}
    assert not before.items() & versions(here).items()

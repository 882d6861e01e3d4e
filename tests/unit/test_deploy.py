"""`make deploy`: what it reads from samconfig.toml, what it refuses before AWS would, and what it says."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws
from samcli.yamlhelper import yaml_parse

from deploy import check, section, stack
from deploy.section import Refused, Section
from sms_retry import conninfo

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "template.yaml"
SAMCONFIG = ROOT / "samconfig.toml"
REGION = "eu-west-1"
DATABASE = {"host": "db.example.com", "port": 5432, "username": "app", "password": "s3cret", "dbname": "app"}
TWILIO = {"account_sid": "AC1", "auth_token": "s3cret"}
FILLED_IN = {
    "DatabaseSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:sms/database-AbCdEf",
    "TwilioSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:sms/twilio-GhIjKl",
    "TwilioSender": "+15005550006",
}
ENVIRONMENTS = ("dev", "staging", "prod")
BY_IAM = {"DatabaseSecretArn": "", "DatabaseUrl": "postgresql://app@db.abc.eu-west-1.rds.amazonaws.com/app"}
OWN_DATABASE = {
    "DatabaseSecretArn": "",
    "CreateDatabase": "true",
    "VpcId": "vpc-0a",
    "VpcSubnetIds": "subnet-0a,subnet-0b",
}
IN_A_VPC = {"VpcSubnetIds": "subnet-0a", "VpcSecurityGroupIds": "sg-0a,sg-0b"}
ALLOWED = [
    {},
    IN_A_VPC,
    OWN_DATABASE,
    {**BY_IAM, "DatabaseUser": "prx-0a"},
    {"EventBusName": "a", "EventTypes": "reply"},
]
# Parameters that break a rule of the template, and words of its sentence.
BROKEN = [
    ({"DatabaseSecretArn": ""}, "Give one of DatabaseSecretArn, DatabaseUrl and CreateDatabase=true"),
    ({**OWN_DATABASE, "DatabaseSecretArn": FILLED_IN["DatabaseSecretArn"]}, "Give one of DatabaseSecretArn"),
    (BY_IAM, "Give DatabaseUrl and DatabaseUser"),
    ({"DatabaseUser": "db-0a"}, "Give DatabaseUrl and DatabaseUser"),
    ({**OWN_DATABASE, "VpcId": ""}, "CreateDatabase needs VpcId"),
    (
        {**OWN_DATABASE, "VpcSubnetIds": ""},
        "CreateDatabase needs VpcId and, in two availability zones of it, VpcSubnetIds",
    ),
    ({**OWN_DATABASE, "VpcSecurityGroupIds": "sg-0a"}, "leave VpcSecurityGroupIds empty"),
    ({**IN_A_VPC, "VpcSecurityGroupIds": ""}, "VpcSubnetIds needs VpcSecurityGroupIds"),
    ({**IN_A_VPC, "VpcSubnetIds": ""}, "VpcSecurityGroupIds needs VpcSubnetIds"),
    ({"EventBusName": "default"}, "EventBusName needs EventTypes"),
    ({"ConsoleJwtIssuer": "https://id.example.com"}, "The console needs ConsoleJwtIssuer and ConsoleJwtAudience"),
]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.Session(region_name=REGION)


def keep(session: Any, name: str, secret: object) -> str:
    text = secret if isinstance(secret, str) else json.dumps(secret)
    return str(session.client("secretsmanager").create_secret(Name=name, SecretString=text)["ARN"])


def parameters(**given: str) -> dict[str, str]:
    return section.parameters(TEMPLATE, Section("dev", "sms-retry-dev", {**FILLED_IN, **given}))


def refused(**given: str) -> str:
    with pytest.raises(Refused) as raised:
        parameters(**given)
    return "\n".join(raised.value.args)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_parameter_that_is_to_be_filled_in_is_named(environment: str) -> None:
    its = section.read(SAMCONFIG, environment)
    with pytest.raises(Refused) as raised:
        section.parameters(TEMPLATE, its)
    missing = [name for name, value in its.given.items() if value == "FILL-IN"]
    assert [fault.split()[2] for fault in raised.value.args] == sorted(missing)
    assert set(FILLED_IN) <= set(missing)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_section_that_is_filled_in_gives_each_parameter_a_value(environment: str) -> None:
    its = section.read(SAMCONFIG, environment)
    more = {"AlarmEmail": "anna@example.com", "OnlyTo": "" if environment == "prod" else "+14155550123"}
    whole = section.parameters(TEMPLATE, Section(environment, its.stack, {**its.given, **FILLED_IN, **more}))
    assert whole["LogRetentionDays"] == its.given["LogRetentionDays"]
    assert whole["SendConcurrency"] == "20"
    assert whole["Settings"].startswith("settings ")


@pytest.mark.parametrize("environment", ["dev", "staging"])
def test_only_production_texts_every_number_unless_somebody_decides_it(environment: str) -> None:
    assert section.read(SAMCONFIG, environment).given["OnlyTo"] == section.FILL_IN


def test_each_section_keeps_its_artifacts_under_a_prefix_of_its_own() -> None:
    config = tomllib.loads(SAMCONFIG.read_text())
    prefixes = [config[environment]["deploy"]["parameters"]["s3_prefix"] for environment in ENVIRONMENTS]
    assert prefixes == [config[environment]["deploy"]["parameters"]["stack_name"] for environment in ENVIRONMENTS]
    assert len(set(prefixes)) == len(ENVIRONMENTS)


def test_a_section_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(Refused, match=r"no section production\..*has dev, staging, prod"):
        section.read(SAMCONFIG, "production")


@pytest.mark.parametrize(
    "lines",
    [
        ["MaxWorkers=9", "PublicWebhookUrl=", 'DatabaseUrl=""'],
        'MaxWorkers="9" PublicWebhookUrl="" DatabaseUrl=""',
    ],
)
def test_a_parameter_can_be_given_as_empty_in_every_way_that_sam_writes(lines: str | list[str]) -> None:
    assert section.overrides(lines) == {"MaxWorkers": "9", "PublicWebhookUrl": "", "DatabaseUrl": ""}


@pytest.mark.parametrize("name", ["a" * 101, "", "sms_retry", "1-sms"])
def test_a_stack_name_that_aws_would_refuse_is_refused_first(tmp_path: Path, name: str) -> None:
    config = tmp_path / "samconfig.toml"
    config.write_text(f'[dev.deploy.parameters]\nstack_name = "{name}"\n')
    with pytest.raises(Refused, match="1 to 100 letters, digits and hyphens"):
        section.read(config, "dev")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"TwilioSender": "15005550006"}, "TwilioSender must be an E.164 number"),
        ({"DatabaseSecretArn": "sms/database"}, "DatabaseSecretArn must be the secret's full ARN"),
        ({"Maxworkers": "9"}, "Maxworkers is not a parameter of the template"),
        ({"MaxWorkers": "99"}, "MaxWorkers must be a whole number from 1 to 50"),
        ({"MaxWorkers": "many"}, "MaxWorkers must be a whole number from 1 to 50"),
        ({"CreateDatabase": "yes"}, "CreateDatabase must be one of true, false"),
        ({**IN_A_VPC, "VpcSubnetIds": "subnet-0a,vpc-0a"}, "VpcSubnetIds must be ids of subnets"),
        ({**IN_A_VPC, "VpcSecurityGroupIds": "default"}, "VpcSecurityGroupIds must be ids of security groups"),
    ],
)
def test_a_value_that_cloudformation_would_refuse_is_refused_first(given: dict[str, str], words: str) -> None:
    assert words in refused(**given)


@pytest.mark.parametrize(("given", "words"), BROKEN)
def test_parameters_that_break_a_rule_of_the_template_are_refused_with_its_sentence(
    given: dict[str, str], words: str
) -> None:
    assert words in refused(**given)


@pytest.mark.parametrize("given", ALLOWED)
def test_parameters_that_break_no_rule_are_taken(given: dict[str, str]) -> None:
    assert parameters(**given).items() >= given.items()


def test_every_rule_of_the_template_is_broken_by_an_example() -> None:
    sentences = [
        each["AssertDescription"]
        for rule in yaml_parse(TEMPLATE.read_text())["Rules"].values()
        for each in rule["Assertions"]
    ]
    assert [sentence for sentence in sentences if not any(words in sentence for _, words in BROKEN)] == []


@pytest.mark.parametrize(
    ("user", "words"), [("prx-0a", ""), ("prx-0a/app", ""), ("prx-0a/root", "ends in /root, which is not the user")]
)
def test_the_functions_sign_in_as_the_user_of_the_url(user: str, words: str) -> None:
    given = {**BY_IAM, "DatabaseUser": user}
    if words:
        assert words in refused(**given)
    else:
        assert parameters(**given)["DatabaseUser"] == user


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"VpcId": "vpc-0b"}, "VpcId cannot change while the stack has its own database: it must remain vpc-0a."),
        ({"VpcSubnetIds": "subnet-0a"}, "VpcSubnetIds cannot change"),
        ({**FILLED_IN, "CreateDatabase": "false"}, "CreateDatabase=false would delete the database of the stack"),
    ],
)
def test_a_change_that_would_end_the_database_of_the_stack_is_refused(changed: dict[str, str], words: str) -> None:
    kept = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters(**OWN_DATABASE).items()]
    before = {"Parameters": kept}
    assert words in "\n".join(stack.fixed(before, {**parameters(**OWN_DATABASE), **changed}))
    assert list(stack.fixed(before, parameters(**OWN_DATABASE, MaxWorkers="9"))) == []
    assert list(stack.fixed(None, parameters(**OWN_DATABASE))) == []


def test_a_stack_without_a_database_may_move_to_other_subnets() -> None:
    kept = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters(**IN_A_VPC).items()]
    assert list(stack.fixed({"Parameters": kept}, parameters(**{**IN_A_VPC, "VpcSubnetIds": "subnet-0c"}))) == []


def test_a_line_that_is_removed_returns_its_parameter_to_the_default() -> None:
    before, after = parameters(MaxWorkers="9"), parameters()
    assert (before["MaxWorkers"], after["MaxWorkers"]) == ("9", "4")
    assert before["Settings"] != after["Settings"] == parameters()["Settings"]


def findings(session: Any, tmp_path: Path, **given: str) -> check.Findings:
    library = tmp_path / "DependenciesLayer" / "python" / "a.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    library.write_bytes(b"\x7fELF" + bytes(14) + b"\xb7\x00")
    kept = {"DatabaseSecretArn": keep(session, "database", DATABASE), "TwilioSecretArn": keep(session, "tw", TWILIO)}
    return check.check(session, {**parameters(), **kept, **given}, tmp_path)


def test_what_is_in_order_has_no_fault(session: Any, tmp_path: Path) -> None:
    assert findings(session, tmp_path) == check.Findings([], [])


def test_a_region_is_asked_for(session: Any) -> None:
    nowhere = boto3.Session()
    if nowhere.region_name:
        pytest.skip("this machine has a default region")
    with pytest.raises(Refused, match="No region is set: set AWS_REGION"):
        check.account(nowhere)


def test_credentials_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Refused, match="refuses your credentials"):
        check.account(boto3.Session(region_name=REGION))


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("postgresql://app:s3cret@db.example.com/app", "must be a JSON object"),
        ({"username": "app", "password": "s3cret"}, "no host, port, dbname. The secret that RDS creates"),
        ({name: value for name, value in DATABASE.items() if name != "password"}, "the secret has no password"),
    ],
)
def test_a_database_secret_of_another_shape_is_refused_and_not_repeated(
    session: Any, tmp_path: Path, secret: object, words: str
) -> None:
    found = findings(session, tmp_path, DatabaseSecretArn=keep(session, "other", secret))
    [fault] = found.faults
    assert words in fault
    assert "s3cret" not in fault


def test_the_check_asks_of_a_secret_what_the_functions_do() -> None:
    assert tuple(conninfo.SECRET) == check.DATABASE_SECRET


def test_a_twilio_secret_without_a_token_is_refused(session: Any, tmp_path: Path) -> None:
    found = findings(session, tmp_path, TwilioSecretArn=keep(session, "other", {"account_sid": "AC1"}))
    assert found.faults == ["TwilioSecretArn: the secret has no auth_token."]


def test_senders_need_no_token_where_the_webhook_has_a_secret_of_its_own(session: Any, tmp_path: Path) -> None:
    key = keep(session, "key", {"account_sid": "AC1", "api_key_sid": "SK1", "api_key_secret": "s3cret"})
    token, other = keep(session, "token", TWILIO), keep(session, "neither", {"account_sid": "AC1"})

    def faults(**given: str) -> list[str]:
        return check.check(session, {**order, **given}, tmp_path).faults

    assert findings(session, tmp_path, TwilioSecretArn=key).faults == ["TwilioSecretArn: the secret has no auth_token."]
    order = parameters() | {"DatabaseSecretArn": keep(session, "database2", DATABASE), "TwilioSecretArn": key}
    assert faults(TwilioWebhookSecretArn=token) == []
    assert faults(TwilioWebhookSecretArn=key) == ["TwilioWebhookSecretArn: the secret has no auth_token."]
    assert faults(TwilioWebhookSecretArn=token, TwilioSecretArn=other) == [
        "TwilioSecretArn: the secret has no auth_token."
    ]


def test_a_secret_that_is_not_there_is_named(session: Any, tmp_path: Path) -> None:
    found = findings(session, tmp_path, DatabaseSecretArn=FILLED_IN["DatabaseSecretArn"])
    assert found.faults == [
        f"DatabaseSecretArn: the secret {FILLED_IN['DatabaseSecretArn']} does not exist in this account."
    ]


def test_a_secret_of_another_region_is_refused(session: Any, tmp_path: Path) -> None:
    elsewhere = FILLED_IN["DatabaseSecretArn"].replace(REGION, "us-east-1")
    found = findings(session, tmp_path, DatabaseSecretArn=elsewhere)
    assert found.faults == ["DatabaseSecretArn is in us-east-1: it must be in the region of the stack, eu-west-1."]


def test_layers_of_another_architecture_are_refused(session: Any, tmp_path: Path) -> None:
    found = findings(session, tmp_path, Architecture="x86_64")
    assert found.faults == ["Architecture is x86_64, and the layers are arm64: run `make deploy ARCHITECTURE=x86_64`."]


def test_layers_that_were_not_built_are_asked_for(tmp_path: Path) -> None:
    assert list(check.architecture(tmp_path, "arm64")) == [f"{tmp_path} contains no layer: run `make build`."]


class Limited:
    """A session in which Lambda answers with a limit of concurrent executions."""

    def __init__(self, limit: int) -> None:
        self.functions = boto3.client("lambda", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")
        answers = Stubber(self.functions)
        answers.add_response("get_account_settings", {"AccountLimit": {"ConcurrentExecutions": limit}})
        answers.activate()

    def client(self, service: str) -> Any:
        return self.functions


@pytest.mark.parametrize(
    ("limit", "reserved", "fits"), [(10, 6, False), (1000, 6, True), (105, 6, False), (10, 0, True)]
)
def test_workers_are_reserved_only_where_the_account_has_enough(limit: int, reserved: int, fits: bool) -> None:
    faults = list(check.concurrency(Limited(limit), {"ReservedWorkers": str(reserved)}))
    assert bool(faults) != fits


def subnet(session: Any, vpc: str, zone: str, block: str) -> str:
    made = session.client("ec2").create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=zone)
    return str(made["Subnet"]["SubnetId"])


def test_a_database_of_the_stack_needs_subnets_in_two_zones(session: Any) -> None:
    vpc = session.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    one, beside = (subnet(session, vpc, "eu-west-1a", block) for block in ("10.0.0.0/24", "10.0.1.0/24"))
    two = subnet(session, vpc, "eu-west-1b", "10.0.2.0/24")

    def faults(*ids: str, vpc: str = vpc) -> str:
        given = {"CreateDatabase": "true", "VpcId": vpc, "VpcSubnetIds": ",".join(ids)}
        return "\n".join(check.subnets(session, given))

    assert "needs two subnets or more" in faults(one)
    assert "are in one" in faults(one, beside)
    assert "not all in vpc-00000000" in faults(one, two, vpc="vpc-00000000")
    assert faults(one, two) == ""


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("ROLLBACK_COMPLETE", "first deployment failed. Delete the stack, .* `sam delete --stack-name sms-retry-dev"),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback --stack-name sms-retry-dev"),
        ("UPDATE_IN_PROGRESS", "wait until that deployment has ended"),
    ],
)
def test_a_stack_that_cannot_be_updated_says_what_to_do(status: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        stack.can_be_deployed({"StackStatus": status}, "sms-retry-dev")


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_that_is_whole_can_be_deployed(status: str) -> None:
    stack.can_be_deployed({"StackStatus": status}, "sms-retry-dev")
    stack.can_be_deployed(None, "sms-retry-dev")


def test_what_changes_is_said_before_it_is_done() -> None:
    given = [{"ParameterKey": "MaxWorkers", "ParameterValue": "4"}, {"ParameterKey": "Settings", "ParameterValue": "a"}]
    before = {"Parameters": given}
    after = {"MaxWorkers": "9", "Settings": "b", "SendConcurrency": "20"}
    assert list(stack.changes(before, after)) == [("MaxWorkers", "4", "9"), ("SendConcurrency", None, "20")]

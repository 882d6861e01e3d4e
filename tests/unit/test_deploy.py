"""`make deploy`: what it reads from samconfig.toml, what it refuses before AWS would, and what it says."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

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
    {"WebhookFunctionUrl": "true", "FormerWebhookUrls": "https://sms.example.com"},
    {"WebhookFunctionUrl": "former", "PublicWebhookUrl": "https://sms.example.com"},
    {"MigrationSecretArn": FILLED_IN["DatabaseSecretArn"]},
    {**BY_IAM, "DatabaseUser": "prx-0a", "MigrationSecretArn": FILLED_IN["DatabaseSecretArn"]},
]
# Parameters that break a rule of the template, and words of its sentence.
BROKEN = [
    ({"WebhookFunctionUrl": "true", "PublicWebhookUrl": "https://a.example.com"}, "move PublicWebhookUrl to Former"),
    ({"DatabaseSecretArn": ""}, "Give one of DatabaseSecretArn, DatabaseUrl and CreateDatabase=true"),
    ({**OWN_DATABASE, "DatabaseSecretArn": FILLED_IN["DatabaseSecretArn"]}, "Give one of DatabaseSecretArn"),
    (BY_IAM, "Give DatabaseUrl and DatabaseUser"),
    ({"DatabaseUser": "db-0a"}, "Give DatabaseUrl and DatabaseUser"),
    ({**OWN_DATABASE, "VpcId": ""}, "CreateDatabase needs VpcId"),
    (
        {**OWN_DATABASE, "MigrationSecretArn": FILLED_IN["DatabaseSecretArn"]},
        "The database of CreateDatabase has one role, so leave MigrationSecretArn empty",
    ),
    (
        {**OWN_DATABASE, "VpcSubnetIds": ""},
        "CreateDatabase needs VpcId and, in two availability zones of it, VpcSubnetIds",
    ),
    ({**OWN_DATABASE, "VpcSecurityGroupIds": "sg-0a"}, "leave VpcSecurityGroupIds empty"),
    ({**IN_A_VPC, "VpcSecurityGroupIds": ""}, "VpcSubnetIds needs VpcSecurityGroupIds"),
    ({**IN_A_VPC, "VpcSubnetIds": ""}, "VpcSecurityGroupIds needs VpcSubnetIds"),
    ({"EventBusName": "default"}, "EventBusName needs EventTypes"),
    ({"ConsoleIssuer": "https://id.example.com"}, "The console needs ConsoleIssuer and ConsoleClientId"),
    (
        {"ConsoleUserPool": "true", "ConsoleIssuer": "https://id.example.com", "ConsoleClientId": "console"},
        "With ConsoleUserPool leave ConsoleIssuer and ConsoleClientId empty",
    ),
    ({"ConsoleOperatorClaim": "groups"}, "Operators need ConsoleOperatorClaim and ConsoleOperatorValue"),
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
def test_each_placeholder_of_a_section_is_reported(environment: str) -> None:
    its = section.read(SAMCONFIG, environment)
    with pytest.raises(Refused) as raised:
        section.parameters(TEMPLATE, its)
    missing = [name for name, value in its.given.items() if value == "FILL-IN"]
    assert [fault.split()[2] for fault in raised.value.args] == sorted(missing)
    assert set(FILLED_IN) <= set(missing)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_section_without_placeholders_gives_each_parameter_a_value(environment: str) -> None:
    its = section.read(SAMCONFIG, environment)
    more = {"AlarmEmail": "anna@example.com", "OnlyTo": "" if environment == "prod" else "+14155550123"}
    whole = section.parameters(TEMPLATE, Section(environment, its.stack, {**its.given, **FILLED_IN, **more}))
    assert whole["LogRetentionDays"] == its.given["LogRetentionDays"]
    assert whole["SendConcurrency"] == "20"
    assert whole["Settings"].startswith("settings ")


@pytest.mark.parametrize("environment", ["dev", "staging"])
def test_dev_and_staging_need_a_value_for_only_to(environment: str) -> None:
    assert section.read(SAMCONFIG, environment).given["OnlyTo"] == section.FILL_IN


def test_each_section_has_a_separate_prefix_for_its_artifacts() -> None:
    config = tomllib.loads(SAMCONFIG.read_text())
    prefixes = [config[environment]["deploy"]["parameters"]["s3_prefix"] for environment in ENVIRONMENTS]
    assert prefixes == [config[environment]["deploy"]["parameters"]["stack_name"] for environment in ENVIRONMENTS]
    assert len(set(prefixes)) == len(ENVIRONMENTS)


def test_a_missing_section_is_reported_with_the_existing_ones() -> None:
    with pytest.raises(Refused, match=r"no section production\..*has dev, staging, prod"):
        section.read(SAMCONFIG, "production")


@pytest.mark.parametrize(
    "lines",
    [
        ["MaxWorkers=9", "PublicWebhookUrl=", 'DatabaseUrl=""'],
        'MaxWorkers="9" PublicWebhookUrl="" DatabaseUrl=""',
    ],
)
def test_every_notation_of_sam_for_an_empty_parameter_is_read(lines: str | list[str]) -> None:
    assert section.overrides(lines) == {"MaxWorkers": "9", "PublicWebhookUrl": "", "DatabaseUrl": ""}


def test_the_section_that_sam_deploy_guided_writes_can_be_deployed(tmp_path: Path) -> None:
    config = tmp_path / "samconfig.toml"
    given = " ".join(f'{name}=\\"{value}\\"' for name, value in {**FILLED_IN, "OnlyTo": "", "Settings": "1"}.items())
    config.write_text(
        f'[default.deploy.parameters]\nstack_name = "sms"\nparameter_overrides = "{given}"\nimage_repositories = []\n'
        f'[default.global.parameters]\nregion = "{REGION}"\n'
    )
    its = section.read(config, "default")
    assert (its.stack, its.region) == ("sms", REGION)
    assert section.parameters(TEMPLATE, its)["Settings"] == parameters(OnlyTo="")["Settings"]


def test_the_page_on_sam_deploy_guided_names_every_parameter_without_a_usable_default() -> None:
    page = (ROOT / "docs" / "guided.md").read_text()
    declared = section.read_template(TEMPLATE)["Parameters"]
    needed = {name for name, its in declared.items() if "Default" not in its} | set(FILLED_IN) | {"OnlyTo", "Settings"}
    assert {name for name in declared if f"`Parameter {name}`" in page} == needed | {"Architecture"}


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
        (
            {**BY_IAM, "DatabaseUrl": BY_IAM["DatabaseUrl"] + "?sslmode=disable"},
            "DatabaseUrl must be postgresql://user@",
        ),
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
def test_parameters_that_break_no_rule_are_accepted(given: dict[str, str]) -> None:
    assert parameters(**given).items() >= given.items()


def test_every_rule_of_the_template_is_broken_by_an_example() -> None:
    sentences = [
        each["AssertDescription"]
        for rule in section.read_template(TEMPLATE)["Rules"].values()
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


def test_a_database_of_release_0_1_is_not_replaced_by_an_empty_one() -> None:
    # Release 0.1 had no parameter Settings.
    kept = [{"ParameterKey": "CreateDatabase", "ParameterValue": "true"}]
    [fault] = stack.fixed({"Parameters": kept}, parameters(**OWN_DATABASE))
    assert fault.startswith("Release 0.1 created the database of this stack")
    kept = [{"ParameterKey": "CreateDatabase", "ParameterValue": "false"}]
    assert list(stack.fixed({"Parameters": kept}, parameters())) == []


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


def test_a_correct_deployment_has_no_fault(session: Any, tmp_path: Path) -> None:
    assert findings(session, tmp_path) == check.Findings([], [])


def test_a_missing_region_is_reported(session: Any) -> None:
    nowhere = boto3.Session()
    if nowhere.region_name:
        pytest.skip("this machine has a default region")
    with pytest.raises(Refused, match="No region is set: set AWS_DEFAULT_REGION"):
        check.account(nowhere)


def test_missing_credentials_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Refused, match="cannot use your credentials"):
        check.account(boto3.Session(region_name=REGION))


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("postgresql://app:s3cret@db.example.com/app", "must be a JSON object"),
        ({"username": "app", "password": "s3cret"}, "no host, port, dbname. The secret that RDS creates"),
        ({name: value for name, value in DATABASE.items() if name != "password"}, "the secret has no password"),
    ],
)
def test_a_database_secret_with_missing_fields_is_refused_without_its_values(
    session: Any, tmp_path: Path, secret: object, words: str
) -> None:
    found = findings(session, tmp_path, DatabaseSecretArn=keep(session, "other", secret))
    [fault] = found.faults
    assert words in fault
    assert "s3cret" not in fault


def test_the_secret_of_the_owner_is_checked_like_that_of_the_database(session: Any, tmp_path: Path) -> None:
    owner = keep(session, "owner", {"username": "app", "password": "s3cret"})
    [fault] = findings(session, tmp_path, MigrationSecretArn=owner).faults
    assert fault.startswith("MigrationSecretArn: the secret has no host, port, dbname.")


def test_the_check_requires_the_fields_that_the_functions_read() -> None:
    assert tuple(conninfo.SECRET) == check.DATABASE_SECRET


def test_a_twilio_secret_without_a_token_is_refused(session: Any, tmp_path: Path) -> None:
    found = findings(session, tmp_path, TwilioSecretArn=keep(session, "other", {"account_sid": "AC1"}))
    assert found.faults == ["TwilioSecretArn: the secret has no auth_token."]


def test_senders_need_no_token_if_the_webhook_has_a_separate_secret(session: Any, tmp_path: Path) -> None:
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


def test_a_missing_secret_is_reported(session: Any, tmp_path: Path) -> None:
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


def test_missing_layers_are_reported(tmp_path: Path) -> None:
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
    faults = list(check.concurrency(Limited(limit), {"ReservedWorkers": str(reserved), "MaxWorkers": "4"}))
    assert bool(faults) != fits


def test_workers_that_could_never_run_are_refused() -> None:
    [fault] = check.concurrency(Limited(1000), {"ReservedWorkers": "6", "MaxWorkers": "9"})
    assert fault == "ReservedWorkers=6 is below MaxWorkers=9, which could never run: give 11."


@pytest.mark.parametrize(
    ("given", "built", "deployed"),
    [
        ([], "arm64", ""),
        (["ARCHITECTURE=x86_64"], "x86_64", "Architecture=x86_64"),
        (["ARCHITECTURE=arm64"], "arm64", "Architecture=arm64"),
    ],
)
def test_make_deploys_the_architecture_that_it_builds(given: list[str], built: str, deployed: str) -> None:
    # Without ARCHITECTURE the section of samconfig.toml decides, and the check compares it with the layers.
    make = ["make", "--dry-run", "--always-make", "deploy", "ENVIRONMENT=prod", *given]
    commands = subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert f"LAMBDA_ARCHITECTURE={built} sam build --parameter-overrides Architecture={built}" in commands
    assert f"python -m deploy prod {deployed}".strip() in [line.strip() for line in commands]


@pytest.mark.parametrize(("region", "fits"), [("eu-west-1", True), ("il-central-1", False), ("eu-west", False)])
def test_a_database_of_the_stack_needs_the_root_certificate_of_its_region(region: str, fits: bool) -> None:
    faults = list(check.root({"CreateDatabase": "true"}, region))
    assert [f"no root certificate of RDS for {region}" in fault for fault in faults] == ([] if fits else [True])
    assert list(check.root({"CreateDatabase": "false"}, region)) == []


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
        (
            "ROLLBACK_COMPLETE",
            "first deployment failed. .* `.venv/bin/sam delete --stack-name sms-retry-dev",
        ),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback --stack-name sms-retry-dev"),
        ("UPDATE_IN_PROGRESS", "wait until that deployment has ended"),
    ],
)
def test_a_stack_that_cannot_be_updated_is_reported_with_the_command_that_helps(status: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        stack.can_be_deployed({"StackStatus": status}, "sms-retry-dev")


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_that_is_whole_can_be_deployed(status: str) -> None:
    stack.can_be_deployed({"StackStatus": status}, "sms-retry-dev")
    stack.can_be_deployed(None, "sms-retry-dev")


def test_changed_parameters_are_listed_with_old_and_new_value() -> None:
    given = [{"ParameterKey": "MaxWorkers", "ParameterValue": "4"}, {"ParameterKey": "Settings", "ParameterValue": "a"}]
    before = {"Parameters": given}
    after = {"MaxWorkers": "9", "Settings": "b", "SendConcurrency": "20"}
    assert list(stack.changes(before, after)) == [("MaxWorkers", "4", "9"), ("SendConcurrency", None, "20")]

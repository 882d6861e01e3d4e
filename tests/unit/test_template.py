"""template.yaml as AWS receives it: expanded by SAM's own translator, without network or credentials."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import boto3
import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from twilio.request_validator import RequestValidator
from uv import find_uv_bin

from deploy import section
from sms_retry import attempt, migrate, reconcile, settings, twilio, worker

ROOT = Path(__file__).parents[2]
# Regions that offer every resource of the template.
REGIONS = ["eu-west-1", "us-east-1"]
PARAMETERS = {
    "DatabaseSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:sms/database-AbCdEf",
    "TwilioSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:sms/twilio-GhIjKl",
    "TwilioSender": "+15005550006",
}
DATABASE = {"DATABASE_SECRET_ARN", "DATABASE_URL"}
TWILIO = {"TWILIO_SECRET_ARN", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"}
SENDING = DATABASE | TWILIO | {"TWILIO_SENDER", "TWILIO_API_URL", "PUBLIC_WEBHOOK_URL", "SEND_CONCURRENCY", "ONLY_TO"}
ENVIRONMENT = {
    "process_retries": SENDING | {"MAX_WORKERS", "LINGER_SECONDS"},
    "send_sms": SENDING,
    "retry_sms": SENDING,
    "twilio_webhook": DATABASE | TWILIO | {"TWILIO_SENDER", "PUBLIC_WEBHOOK_URL", "FORMER_WEBHOOK_URLS"},
    "reconcile": DATABASE | TWILIO | {"TWILIO_SENDER", "TWILIO_API_URL"},
    "health_check": DATABASE,
    "publish_events": DATABASE | {"EVENT_BUS_NAME", "LINGER_SECONDS"},
    "cleanup_retries": DATABASE | {"ERASE_BODY_AFTER_DAYS", "KEEP_MESSAGES_DAYS"},
    "migrate": DATABASE | {"EVENT_TYPES", "APPLICATION_ROLES", "MIGRATION_SECRET_ARN", "MIGRATION_URL"},
    "console": DATABASE
    | {f"CONSOLE_{name}" for name in ("ISSUER", "CLIENT_ID", "URL", "OPERATOR_CLAIM", "OPERATOR_VALUE")}
    | {f"CONSOLE_{name}" for name in ("CLIENT_SECRET", "CLIENT_SECRET_ARN", "SESSION_KEY", "SESSION_SECRET_ARN")},
}
SCHEDULES = {
    "process_retries": "rate(1 minute)",
    "reconcile": "rate(5 minutes)",
    "health_check": "rate(15 minutes)",
    "publish_events": "rate(1 minute)",
    "cleanup_retries": "rate(1 hour)",
}
# Of every function, and read by no code of ours.
ALWAYS = {"SETTINGS", "POWERTOOLS_SERVICE_NAME"}
FOR_BOTO3 = {"migrate": {"AWS_MAX_ATTEMPTS"}}
ONLY_FOR_SAM_LOCAL = {
    "MIGRATION_URL",
    "TWILIO_ACCOUNT_SID",
    "TWILIO_AUTH_TOKEN",
    "CONSOLE_CLIENT_ID",
    "CONSOLE_CLIENT_SECRET",
    "CONSOLE_SESSION_KEY",
    "CONSOLE_URL",
}

Resource = dict[str, Any]


# The actions that the code needs on AWS, and the text of the call.
CALLS = {
    "events:PutEvents": 'boto3.client("events")',
    "secretsmanager:GetSecretValue": "parameters.get_secret(",
    "lambda:InvokeFunction": 'boto3.client("lambda").invoke(',
    "rds-db:connect": 'boto3.client("rds", ',
}


def expand(changed: str | None = None, **parameters: str) -> dict[str, Any]:
    """The CloudFormation template of a deployment; the code of the resource `changed` is a new version."""
    template = section.read_template(ROOT / "template.yaml")
    for name, resource in template["Resources"].items():
        for code in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
            version = "2" if name == changed else "1"
            resource["Properties"][code] = f"s3://bucket/{name}-{version}"
    session = boto3.Session(region_name="eu-west-1")
    expanded: dict[str, Any] = Translator({}, Parser(), boto_session=session).translate(
        template, PARAMETERS | parameters
    )
    return expanded


@pytest.fixture(scope="module")
def source() -> dict[str, Any]:
    return section.read_template(ROOT / "template.yaml")


@pytest.fixture(scope="module")
def expanded() -> dict[str, Any]:
    return expand()


def lint(template: dict[str, Any], regions: list[str]) -> list[Any]:
    # Imported late: it takes seconds, and each process of pytest collects this file.
    from cfnlint.api import lint as found

    return found(json.dumps(template), regions=regions)


def of_type(template: dict[str, Any], kind: str) -> dict[str, Resource]:
    return {name: r["Properties"] for name, r in template["Resources"].items() if r["Type"] == kind}


def by_folder(source: dict[str, Any]) -> dict[str, str]:
    """Maps the folder of each function to its logical id."""
    functions = of_type(source, "AWS::Serverless::Function")
    return {Path(properties["CodeUri"]).name: name for name, properties in functions.items()}


def test_the_template_has_every_function_and_each_has_a_handler(source: dict[str, Any]) -> None:
    assert by_folder(source).keys() == ENVIRONMENT.keys()
    assert source["Globals"]["Function"]["Handler"] == "app.lambda_handler"
    for properties in of_type(source, "AWS::Serverless::Function").values():
        handler = ROOT / properties["CodeUri"] / "app.py"
        assert "def lambda_handler(" in handler.read_text(), f"{handler} has no lambda_handler"


@pytest.mark.parametrize("folder", ENVIRONMENT)
def test_a_function_has_exactly_the_environment_that_it_uses(
    folder: str, source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    variables = of_type(expanded, "AWS::Lambda::Function")[by_folder(source)[folder]]["Environment"]["Variables"]
    assert variables.keys() == ENVIRONMENT[folder] | ALWAYS | FOR_BOTO3.get(folder, set())


def test_the_environment_on_aws_contains_no_secret(expanded: dict[str, Any]) -> None:
    for properties in of_type(expanded, "AWS::Lambda::Function").values():
        variables = properties["Environment"]["Variables"]
        for name in ONLY_FOR_SAM_LOCAL & variables.keys():
            assert variables[name] == {"Ref": "AWS::NoValue"}


def test_env_json_for_sam_local_has_exactly_the_variables_of_the_template() -> None:
    overrides = json.loads((ROOT / "tests/env.json").read_text())["Parameters"]
    assert overrides.keys() == set().union(*ENVIRONMENT.values())


def test_every_schedule_invokes_its_alias_once_and_failures_go_to_the_dead_letter_queue(
    source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    schedules = of_type(expanded, "AWS::Scheduler::Schedule")
    expressions = {p["Target"]["Arn"]["Ref"]: p["ScheduleExpression"] for p in schedules.values()}
    assert expressions == {f"{by_folder(source)[folder]}Aliaslive": when for folder, when in SCHEDULES.items()}
    for properties in schedules.values():
        assert properties["Target"]["RetryPolicy"] == {
            "MaximumRetryAttempts": 0,
            "MaximumEventAgeInSeconds": 60,
        }
        assert properties["Target"]["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["DeadLetters", "Arn"]}}


def test_two_stacks_in_one_account_share_no_schedule_name(expanded: dict[str, Any]) -> None:
    assert not [name for name, p in of_type(expanded, "AWS::Scheduler::Schedule").items() if "Name" in p]


def test_two_stacks_in_one_account_have_no_metric_in_common(expanded: dict[str, Any]) -> None:
    for properties in of_type(expanded, "AWS::Lambda::Function").values():
        assert properties["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}
    dimensions = re.findall(r'"Name": "service", "Value": ([^}]+})', json.dumps(expanded))
    assert set(dimensions) == {'{"Ref": "AWS::StackName"}'}
    dashboard = of_type(expanded, "AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"]["Fn::Sub"]
    assert set(re.findall(r'"service", "([^"]+)"', dashboard)) == {"${AWS::StackName}"}


def test_the_name_of_an_api_begins_with_the_name_of_its_stack(expanded: dict[str, Any]) -> None:
    titles = {name: api["Body"]["info"]["title"] for name, api in of_type(expanded, "AWS::ApiGatewayV2::Api").items()}
    assert titles == {
        "CallbacksApi": {"Fn::Sub": "${AWS::StackName}-callbacks"},
        "ConsoleApi": {"Fn::Sub": "${AWS::StackName}-console"},
    }


def test_lambda_retries_no_asynchronous_invocation(source: dict[str, Any], expanded: dict[str, Any]) -> None:
    configs = of_type(expanded, "AWS::Lambda::EventInvokeConfig").values()
    assert {c["FunctionName"]["Ref"] for c in configs} == set(by_folder(source).values())
    for config in configs:
        assert config["MaximumRetryAttempts"] == 0
        assert 60 <= config["MaximumEventAgeInSeconds"] <= 3600
        # The event of send_sms holds a number and a text.
        kept = "FailedSends" if config["FunctionName"]["Ref"] == "SendSmsFunction" else "DeadLetters"
        assert config["DestinationConfig"]["OnFailure"]["Destination"] == {"Fn::GetAtt": [kept, "Arn"]}


def test_a_dead_letter_of_send_sms_is_a_reference_without_number_and_text(expanded: dict[str, Any]) -> None:
    [rule] = of_type(expanded, "AWS::Events::Rule").values()
    assert rule["EventBusName"] == {"Ref": "FailedSends"}
    [target] = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    # Every field of Lambda's record that holds nothing of the request and of the answer.
    assert target["InputTransformer"]["InputPathsMap"] == {
        "at": "$.detail.timestamp",
        "requestId": "$.detail.requestContext.requestId",
        "functionArn": "$.detail.requestContext.functionArn",
        "condition": "$.detail.requestContext.condition",
    }
    [policy] = of_type(expanded, "AWS::SQS::QueuePolicy").values()
    [statement] = policy["PolicyDocument"]["Statement"]
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["FailedSendsToDeadLetters", "Arn"]}}
    }


def test_an_event_of_send_sms_reaches_no_queue(expanded: dict[str, Any]) -> None:
    sends = {role for role, each in statements(expanded) if each["Action"] == "sqs:SendMessage"}
    puts = {role for role, each in statements(expanded) if each["Action"] == "events:PutEvents"}
    assert puts == {"SendSmsRole", "PublishEventsRole"}
    assert "SendSmsRole" not in sends


@pytest.mark.parametrize("api", ["CallbacksApi", "ConsoleApi"])
def test_an_access_log_names_the_source(api: str, expanded: dict[str, Any]) -> None:
    [stage] = [each for each in of_type(expanded, "AWS::ApiGatewayV2::Stage").values() if each["ApiId"] == {"Ref": api}]
    line = json.loads(stage["AccessLogSettings"]["Format"])
    assert line["sourceIp"] == "$context.identity.sourceIp"


def test_every_function_logs_json_to_a_separate_group_with_a_retention(expanded: dict[str, Any]) -> None:
    groups = of_type(expanded, "AWS::Logs::LogGroup")
    used = []
    for properties in of_type(expanded, "AWS::Lambda::Function").values():
        logging = properties["LoggingConfig"]
        assert logging["LogFormat"] == "JSON"
        used.append(logging["LogGroup"]["Ref"])
    assert len(used) == len(set(used))
    assert set(used) < groups.keys()
    assert all(group["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())


def minutes(function: str, pattern: str) -> float:
    """The minutes in the text of an SQL function, as seconds."""
    found = re.search(pattern, next((ROOT / "sql" / "functions").rglob(f"{function}.sql")).read_text())
    assert found
    return int(found[1]) * 60


def test_a_worker_times_out_before_its_claims_count_as_stuck(source: dict[str, Any], expanded: dict[str, Any]) -> None:
    stuck = minutes("recover_stuck_sms_retries", r"stale_minutes int default (\d+)")
    resent = minutes("sms_unknown_has_waited", r"interval '(\d+) minutes'")
    functions = of_type(expanded, "AWS::Lambda::Function")
    for folder in ("process_retries", "send_sms", "retry_sms"):
        timeout = functions[by_folder(source)[folder]]["Timeout"]
        assert attempt.SLOWEST_SEND < timeout < stuck < resent
    assert twilio.CONNECT_TIMEOUT + twilio.READ_TIMEOUT < attempt.SLOWEST_SEND
    assert stuck > attempt.OLDEST_CLAIM + attempt.SLOWEST_SEND
    assert functions[by_folder(source)["reconcile"]]["Timeout"] > reconcile.SLOWEST_QUESTION


def test_the_clean_up_of_five_million_messages_a_day_has_two_seconds_for_each_statement(
    source: dict[str, Any],
) -> None:
    upkeep = ROOT / "sql/functions/upkeep"
    # Each message is erased, cleaned up and removed, in three statements of so many messages.
    texts = [
        (upkeep / f"{name}.sql").read_text() for name in ("erase_sms_bodies", "cleanup_sms_retries", "remove_old_sms")
    ]
    sizes = [int(re.findall(r"limit (\d+)", text)[0]) for text in texts]
    statements = sum(5_000_000 / size for size in sizes)
    [one_batch] = re.findall(r"ONE_BATCH = ([0-9.]+)", (ROOT / "functions/cleanup_retries/app.py").read_text())
    cleanup = of_type(source, "AWS::Serverless::Function")[by_folder(source)["cleanup_retries"]]
    assert SCHEDULES["cleanup_retries"] == "rate(1 hour)"
    assert 24 * (cleanup["Timeout"] - float(one_batch)) / statements > 2


def test_a_migration_ends_before_its_lambda_where_three_addresses_do_not_answer(
    source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    function = of_type(expanded, "AWS::Lambda::Function")[by_folder(source)["migrate"]]
    assert function["Timeout"] / 2 > 3 * migrate.CONNECT_TIMEOUT


def test_a_worker_claims_until_the_next_tick_and_has_time_to_finish_its_sends(
    source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    function = of_type(expanded, "AWS::Lambda::Function")[by_folder(source)["process_retries"]]
    assert worker.CLAIMING == 60  # the schedule's rate
    assert function["Timeout"] > 300 > worker.CLAIMING + attempt.SLOWEST_SEND  # between them the alarm on a slow tick


def statements(expanded: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every statement of every role, in both branches of a condition."""
    roles = of_type(expanded, "AWS::IAM::Role").items()
    policies = [(role, policy) for role, properties in roles for policy in properties.get("Policies", [])]
    policies += of_type(expanded, "AWS::IAM::Policy").items()
    either = [(role, way) for role, policy in policies for way in policy.get("Fn::If", [None, policy])[1:]]
    found = [(role, way["PolicyDocument"]["Statement"]) for role, way in either if "PolicyDocument" in way]
    return [(role, each) for role, given in found for each in (given if isinstance(given, list) else [given])]


def test_no_statement_allows_every_resource_or_every_action(expanded: dict[str, Any]) -> None:
    found = statements(expanded)
    assert found
    for role, statement in found:
        assert "*" not in json.dumps([statement["Action"], statement["Resource"]]), role


def managed(role: Resource) -> set[str]:
    return {re.sub(r"^.*/", "", json.dumps(arn).strip('"}')) for arn in role.get("ManagedPolicyArns", [])}


def test_a_function_outside_a_vpc_has_no_right_to_its_network(source: dict[str, Any], expanded: dict[str, Any]) -> None:
    # The actions of AWS's own policies on traces and network interfaces take no resource but "*".
    for name in by_folder(source).values():
        role = of_type(expanded, "AWS::IAM::Role")[name.removesuffix("Function") + "Role"]
        traces, network = role["ManagedPolicyArns"]
        assert traces["Fn::Sub"].endswith(":policy/AWSXrayWriteOnlyAccess")
        condition, inside, outside = network["Fn::If"]
        assert (condition, outside) == ("InVpc", {"Ref": "AWS::NoValue"})
        assert inside["Fn::Sub"].endswith(":policy/service-role/AWSLambdaENIManagementAccess")


def test_only_the_roles_of_functions_and_of_codedeploy_have_managed_policies(
    source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    ours = {name.removesuffix("Function") + "Role" for name in by_folder(source).values()}
    others = {name: role for name, role in of_type(expanded, "AWS::IAM::Role").items() if name not in ours}
    assert set().union(*map(managed, others.values())) == {"AWSCodeDeployRoleForLambda"}


def test_a_function_writes_to_its_own_log_group_and_cannot_create_one(
    source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    writes = {role: each for role, each in statements(expanded) if "logs:PutLogEvents" in each["Action"]}
    assert len(writes) == len(ENVIRONMENT)
    for name in by_folder(source).values():
        group = of_type(expanded, "AWS::Lambda::Function")[name]["LoggingConfig"]["LogGroup"]["Ref"]
        assert writes[name.removesuffix("Function") + "Role"] == {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": {"Fn::GetAtt": [group, "Arn"]},
        }


def test_a_function_may_read_the_secrets_that_it_uses_and_no_other(
    source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    readable: dict[str, list[Any]] = {}
    for role, statement in statements(expanded):
        of_the_stack = "DatabasePassword" in json.dumps(statement["Resource"])
        if statement["Action"] == "secretsmanager:GetSecretValue" and not of_the_stack:
            readable.setdefault(role, []).append(statement["Resource"])
    database, twilio = {"Ref": "DatabaseSecretArn"}, {"Ref": "TwilioSecretArn"}
    webhook = {"Fn::If": ["HasWebhookSecret", {"Ref": "TwilioWebhookSecretArn"}, twilio]}
    for folder, name in by_folder(source).items():
        wanted = [database]
        if "TWILIO_SECRET_ARN" in ENVIRONMENT[folder]:
            wanted.append(webhook if folder == "twilio_webhook" else twilio)
            variables = of_type(expanded, "AWS::Lambda::Function")[name]["Environment"]["Variables"]
            assert variables["TWILIO_SECRET_ARN"] == wanted[-1]
        if folder == "migrate":
            wanted.append({"Ref": "MigrationSecretArn"})
        if folder == "console":
            client = {"Fn::If": ["HasConsoleClientSecret", {"Ref": "ConsoleClientSecretArn"}, {"Ref": "AWS::NoValue"}]}
            wanted.insert(0, [{"Ref": "ConsoleSessionKey"}, client])
        assert readable[name.removesuffix("Function") + "Role"] == wanted


def test_only_migrate_has_the_secret_of_the_owner(expanded: dict[str, Any]) -> None:
    owner = {"Ref": "MigrationSecretArn"}
    assert [role for role, each in statements(expanded) if each["Resource"] == owner] == ["MigrateRole"]
    functions = of_type(expanded, "AWS::Lambda::Function").items()
    given = {name: its["Environment"]["Variables"].get("MIGRATION_SECRET_ARN") for name, its in functions}
    assert {name: arn for name, arn in given.items() if arn} == {"MigrateFunction": owner}


def test_only_migrate_may_read_the_password_of_the_master_user(expanded: dict[str, Any]) -> None:
    master = {"Fn::GetAtt": ["DatabaseCluster", "MasterUserSecret.SecretArn"]}
    password = {"Fn::GetAtt": ["DatabasePassword", "Id"]}
    found = [(role, each["Resource"]) for role, each in statements(expanded) if "Database" in json.dumps(each)]
    reads = [(role, resource) for role, resource in found if "DatabasePassword" in json.dumps(resource)]
    assert reads == [("MigrateRole", [master, password]), ("DatabaseProxyRole", password)]
    assert [role for role, resource in found if "DatabaseCluster" in json.dumps(resource)] == ["MigrateRole"]


def test_the_service_is_not_the_master_user_of_the_database_of_the_stack(expanded: dict[str, Any]) -> None:
    secret = expanded["Resources"]["DatabasePassword"]["Properties"]
    role = json.loads(secret["GenerateSecretString"]["SecretStringTemplate"])["username"]
    assert of_type(expanded, "AWS::RDS::DBCluster")["DatabaseCluster"]["MasterUsername"] != role
    [url] = {
        json.dumps(properties["Environment"]["Variables"]["DATABASE_URL"]["Fn::If"][1])
        for properties in of_type(expanded, "AWS::Lambda::Function").values()
    }
    assert f"postgresql://{role}@" in url
    [auth] = of_type(expanded, "AWS::RDS::DBProxy")["DatabaseProxy"]["Auth"]
    assert auth == {
        "AuthScheme": "SECRETS",
        "IAMAuth": "REQUIRED",
        "SecretArn": {"Fn::GetAtt": ["DatabasePassword", "Id"]},
    }


def test_the_role_exists_before_the_proxy_signs_in_and_the_proxy_before_the_migration(expanded: dict[str, Any]) -> None:
    resources = expanded["Resources"]
    assert resources["DatabaseRole"]["DependsOn"] == "DatabaseInstance"
    assert resources["DatabaseProxyTargets"]["DependsOn"] == "DatabaseRole"
    waited_for = resources["Migration"]["Properties"]["Database"]["Fn::If"]
    assert waited_for[:2] == ["CreatesDatabase", {"Ref": "DatabaseProxyTargets"}]


def test_the_database_of_the_stack_logs_no_rows_into_a_group_with_a_retention(expanded: dict[str, Any]) -> None:
    cluster = expanded["Resources"]["DatabaseCluster"]
    group = of_type(expanded, "AWS::Logs::LogGroup")["DatabaseLogs"]
    assert cluster["DependsOn"] == "DatabaseLogs"
    assert cluster["Properties"]["EnableCloudwatchLogsExports"] == ["postgresql"]
    stack = {"AWS::StackId": f"arn:aws:cloudformation:eu-west-1:123456789012:stack/{'a' * 100}--/{'0b1c' * 9}"}
    identifier = resolved(cluster["Properties"]["DBClusterIdentifier"], stack)
    assert resolved(group["LogGroupName"], stack) == f"/aws/rds/cluster/{identifier}/postgresql"
    assert cluster["Properties"]["DBClusterParameterGroupName"] == {"Ref": "DatabaseParameters"}
    [parameters] = of_type(expanded, "AWS::RDS::DBClusterParameterGroup").values()
    assert parameters["Family"] == f"aurora-postgresql{cluster['Properties']['EngineVersion']}"
    assert parameters["Parameters"] == {"log_error_verbosity": "terse"}


@pytest.mark.parametrize(("kind", "name"), [("DBCluster", "DBClusterIdentifier"), ("DBProxy", "DBProxyName")])
def test_no_name_of_a_stack_makes_a_name_that_rds_refuses(kind: str, name: str, expanded: dict[str, Any]) -> None:
    # At most 63 letters, digits and hyphens, no two hyphens in a row, none at the end.
    # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBProxy.html
    id_ = "12ab34cd-12ab-34cd-56ef-12ab34cd56ef"
    stack = {"AWS::StackId": f"arn:aws:cloudformation:eu-west-1:123456789012:stack/{'a' * 100}--/{id_}"}
    [properties] = of_type(expanded, f"AWS::RDS::{kind}").values()
    made = resolved(properties[name], stack)
    assert re.fullmatch(r"[a-z](?:-?[a-z0-9])*", made)
    assert len(made) <= 63


# A value for each resource of CreateDatabase that its schema does not allow.
WRONG = {
    "FunctionsSecurityGroup": {"GroupDescription": 7.5, "VpcIds": []},
    "DatabaseSecurityGroup": {"SecurityGroupIngress": "5432"},
    "ProxyToDatabase": {"Port": 5432},
    "ProxyFromDatabase": {"Port": 5432},
    "DatabaseSubnets": {"SubnetIds": {"a": "b"}},
    "DatabaseLogs": {"RetentionInDays": 8},
    "DatabaseParameters": {"Family": ["aurora-postgresql17"]},
    "DatabaseCluster": {"EnableCloudwatchLogsExport": ["postgresql"]},
    "DatabaseInstance": {"DBInstanceClas": "db.serverless"},
    "DatabasePassword": {"GenerateSecretString": {"PasswordLength": "long"}},
    "DatabaseProxy": {"EngineFamily": "POSTGRES"},
    "DatabaseProxyRole": {"AssumeRolePolicy": {}},
    "DatabaseProxyTargets": {"TargetGroupName": "other"},
}


def test_the_schemas_of_cloudformation_are_checked_for_each_resource_of_the_database(expanded: dict[str, Any]) -> None:
    # That the template itself has no finding is the test above of its warnings.
    ours = {name for name, each in expanded["Resources"].items() if each.get("Condition") == "CreatesDatabase"}
    assert ours - WRONG.keys() == {"DatabaseRole"}  # a custom resource has no schema
    template = json.loads(json.dumps(expanded))
    for name, wrong in WRONG.items():
        template["Resources"][name]["Properties"] |= wrong
    found = [match for match in lint(template, regions=["eu-west-1"]) if match.rule.severity == "error"]
    reported = {part for match in found for part in match.path if part in WRONG}
    assert reported == WRONG.keys()


def test_no_resource_of_the_database_is_created_without_create_database(expanded: dict[str, Any]) -> None:
    paid = ("AWS::RDS::", "AWS::SecretsManager::", "AWS::EC2::", "Custom::DatabaseRole")
    others = {"ConsoleSessionKey"}
    found = [
        each for name, each in expanded["Resources"].items() if each["Type"].startswith(paid) and name not in others
    ]
    assert len(found) > 10
    assert {each["Condition"] for each in found} == {"CreatesDatabase"}


def resolved(value: Any, parameters: dict[str, str]) -> Any:
    """A value without resources, as CloudFormation resolves it."""

    def of(inner: Any) -> Any:
        return resolved(inner, parameters)

    match value:
        case {"Ref": name}:
            return parameters[name]
        case {"Fn::Split": [by, text]}:
            return of(text).split(by)
        case {"Fn::Select": [place, values]}:
            return of(values)[int(place)]
        case {"Fn::Sub": [str(text), names]}:
            return re.sub(r"\$\{(\w+)\}", lambda name: str(of(names[name[1]])), text)
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{(\w+)\}", lambda name: parameters[name[1]], text)
    return value


@pytest.mark.parametrize(
    ("url", "id_", "allowed"),
    [
        ("postgresql://app@db.abc.eu-west-1.rds.amazonaws.com:5432/shop", "prx-0a", "prx-0a/app"),
        ("postgresql://app@db.abc.eu-west-1.rds.amazonaws.com/shop", "db-0a/root", "db-0a/app"),
        # CloudFormation resolves it for a stack with a secret too, and must be able to.
        ("", "", "/"),
    ],
)
def test_a_function_may_sign_in_as_the_user_of_the_url_and_as_no_other(
    url: str, id_: str, allowed: str, expanded: dict[str, Any]
) -> None:
    [user] = {
        json.dumps(each["Resource"]["Fn::Sub"][1]["User"]["Fn::If"][2])
        for role, each in statements(expanded)
        if each["Action"] == "rds-db:connect" and role != "DatabaseProxyRole"
    }
    assert resolved(json.loads(user), {"DatabaseUrl": url, "DatabaseUser": id_}) == allowed


def test_each_function_may_decrypt_its_secrets_with_the_key_of_the_secrets(
    source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    for name in by_folder(source).values():
        policies = of_type(expanded, "AWS::IAM::Role")[name.removesuffix("Function") + "Role"]["Policies"]
        [key] = [each["Fn::If"] for each in policies if each.get("Fn::If", [""])[0] == "HasSecretsKey"]
        [statement] = key[1]["PolicyDocument"]["Statement"]
        assert statement == {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": {"Ref": "SecretsKeyArn"}}


def test_a_role_allows_exactly_the_actions_that_the_code_needs(
    source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    code = "".join(path.read_text() for path in (ROOT / "layers/sms_retry/python/sms_retry").glob("*.py"))
    assert code.count("boto3.client(") + code.count("parameters.get_") == len(CALLS)
    assert all(code.count(call) == 1 for call in CALLS.values())

    ours = {name.removesuffix("Function") + "Role" for name in by_folder(source).values()}
    allowed: dict[str, set[str]] = {}
    for role, statement in statements(expanded):
        if role in ours | {"CallWorkers"}:
            actions = statement["Action"]
            allowed.setdefault(role, set()).update([actions] if isinstance(actions, str) else actions)
    assert allowed.pop("CallWorkers") == {"lambda:InvokeFunction"}
    assert allowed.keys() == ours
    # With the rights of the function Lambda writes the log and the dead letters, and Secrets Manager decrypts.
    of_aws = {"logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage", "events:PutEvents", "kms:Decrypt"}
    for role, actions in allowed.items():
        assert actions - of_aws <= CALLS.keys() - {"lambda:InvokeFunction"}, role


def test_the_template_has_exactly_the_variables_that_the_code_reads() -> None:
    code = (ROOT / "layers/sms_retry/python/sms_retry/settings.py").read_text()
    read = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', code))
    assert read == set().union(*ENVIRONMENT.values())


def test_no_function_except_migrate_changes_before_the_migration(
    source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    for name in set(by_folder(source).values()) - {"MigrateFunction"}:
        assert expanded["Resources"][name]["DependsOn"] == "Migration", name
    migration = expanded["Resources"]["Migration"]["Properties"]
    assert migration["ServiceToken"] == {"Ref": "MigrateFunctionAliaslive"}
    assert migration["ServiceTimeout"] > of_type(expanded, "AWS::Lambda::Function")["MigrateFunction"]["Timeout"]


def versions(values: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The version that is published of each function: another id or another description makes a new one.

    CloudFormation cannot change a description, so it replaces the version.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-version.html
    """
    expanded = expand(**values)
    given = values | {"Settings": section.settings(values)}
    return {
        properties["FunctionName"]["Ref"]: (name, given[properties["Description"]["Ref"]])
        for name, properties in of_type(expanded, "AWS::Lambda::Version").items()
    }


@pytest.mark.parametrize("parameter", sorted(section.read_template(ROOT / "template.yaml")["Parameters"]))
def test_another_value_of_a_parameter_publishes_a_new_version_of_every_function(
    parameter: str, source: dict[str, Any], expanded: dict[str, Any]
) -> None:
    declared = source["Parameters"]
    values = {name: str(its.get("Default", "")) for name, its in declared.items()} | PARAMETERS
    before, after = versions(values), versions(values | {parameter: values[parameter] + "9"})
    kept = {function for function in before if before[function] == after[function]}
    assert before.keys() == after.keys() == of_type(expanded, "AWS::Lambda::Function").keys()
    # Settings is itself made of all others.
    assert kept == (before.keys() if parameter == "Settings" else set())


def test_a_function_differs_where_a_parameter_does(expanded: dict[str, Any]) -> None:
    # Lambda publishes no version of a function that is as it was, and CloudFormation then fails.
    for properties in of_type(expanded, "AWS::Lambda::Function").values():
        assert properties["Environment"]["Variables"]["SETTINGS"] == {"Ref": "Settings"}


def test_another_database_is_migrated(expanded: dict[str, Any]) -> None:
    asked = expanded["Resources"]["Migration"]["Properties"]["Database"]
    assert asked["Fn::If"][2] == {"Fn::If": ["HasDatabaseSecret", {"Ref": "DatabaseSecretArn"}, {"Ref": "DatabaseUrl"}]}


@pytest.mark.parametrize("changed", ["SmsRetryLayer", "DependenciesLayer", "MigrateFunction"])
def test_a_change_of_code_runs_the_migration(changed: str, expanded: dict[str, Any]) -> None:
    release = expanded["Resources"]["Migration"]["Properties"]["Release"]
    assert expand(changed)["Resources"]["Migration"]["Properties"]["Release"] != release


def test_traffic_shifts_gradually_and_an_alarm_rolls_back(expanded: dict[str, Any]) -> None:
    groups = of_type(expanded, "AWS::CodeDeploy::DeploymentGroup")
    assert {name.removesuffix("FunctionDeploymentGroup") for name in groups} == {
        "ProcessRetries",
        "SendSms",
        "TwilioWebhook",
    }
    for name, group in groups.items():
        alarm = name.removesuffix("FunctionDeploymentGroup") + "Deployment"
        assert group["AlarmConfiguration"] == {"Enabled": True, "Alarms": [{"Name": {"Ref": alarm}}]}
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    assert not of_type(expand(GradualDeployment="false"), "AWS::CodeDeploy::DeploymentGroup")


@pytest.mark.parametrize("name", ["ProcessRetries", "SendSms", "TwilioWebhook"])
def test_an_alarm_that_is_on_already_does_not_stop_the_deployment_of_its_fix(
    name: str, expanded: dict[str, Any]
) -> None:
    # CodeDeploy stops at an alarm that is on, so its alarm looks at the version that is being deployed.
    [version] = [id_ for id_ in of_type(expanded, "AWS::Lambda::Version") if id_.startswith(f"{name}FunctionVersion")]
    assert of_type(expanded, "AWS::CloudWatch::Alarm")[f"{name}Deployment"]["Dimensions"] == [
        {"Name": "FunctionName", "Value": {"Ref": f"{name}Function"}},
        {"Name": "Resource", "Value": {"Fn::Sub": f"${{{name}Function}}:live"}},
        {"Name": "ExecutedVersion", "Value": {"Fn::GetAtt": [version, "Version"]}},
    ]


@pytest.mark.parametrize("layer", ["DependenciesLayer", "SmsRetryLayer"])
def test_a_change_of_a_layer_alone_reaches_every_alias(layer: str, expanded: dict[str, Any]) -> None:
    before = of_type(expanded, "AWS::Lambda::Version").keys()
    after = of_type(expand(changed=layer), "AWS::Lambda::Version").keys()
    assert len(before) == len(after) == len(ENVIRONMENT)
    assert not before & after


def test_the_functions_are_in_a_vpc_only_if_subnets_are_given(expanded: dict[str, Any]) -> None:
    for properties in of_type(expanded, "AWS::Lambda::Function").values():
        condition, _, otherwise = properties["VpcConfig"]["Fn::If"]
        assert condition == "InVpc"
        assert otherwise == {"Ref": "AWS::NoValue"}


LISTS = {
    "OnlyTo": (
        "sending",
        "ONLY_TO",
        ["+1", "+1,+44", "+1, +447700900123"],
        ["FILL-IN", "1", "+", "+1,", ",", "+1;+44", "+0"],
    ),
    "FormerWebhookUrls": (
        "listening",
        "FORMER_WEBHOOK_URLS",
        ["https://a.example.com", "https://a.example.com,https://b.example.com"],
        ["a.example.com", "https://a.example.com/twilio", "https://a.example.com,"],
    ),
    "KeepMessagesDays": ("cleaning_up", "KEEP_MESSAGES_DAYS", ["7", "10", "365", "999", "3650"], ["6", "0", "3651"]),
    "EventTypes": ("migrating", "EVENT_TYPES", ["delivered", "delivered,reply", "expired, failed"], ["sent", "reply,"]),
    "ApplicationRoles": ("migrating", "APPLICATION_ROLES", ["shop", "shop, public_crm"], ["shop,PUBLIC", "1a", "a b"]),
}


@pytest.mark.parametrize("parameter", LISTS)
def test_a_parameter_takes_the_values_that_its_function_takes(parameter: str, source: dict[str, Any]) -> None:
    reader, variable, right, wrong = LISTS[parameter]
    pattern = source["Parameters"][parameter]["AllowedPattern"]
    environ = {"DATABASE_SECRET_ARN": "a", "TWILIO_SECRET_ARN": "b", "TWILIO_SENDER": "+15005550006"}
    environ["PUBLIC_WEBHOOK_URL"] = "https://c.example.com"
    for value in ["", *right]:
        assert re.fullmatch(pattern, value), value
        getattr(settings, reader)(environ | {variable: value})
    for value in wrong:
        assert not re.fullmatch(pattern, value), value
        with pytest.raises(settings.SettingsError, match=variable):
            getattr(settings, reader)(environ | {variable: value})


def test_no_parameter_is_a_secret(source: dict[str, Any]) -> None:
    assert not [name for name in source["Parameters"] if re.search(r"(?i)password|token|secret(?!(skey)?arn)", name)]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_placeholders_of_samconfig_are_refused(name: str, source: dict[str, Any]) -> None:
    pattern = source["Parameters"][name]["AllowedPattern"]
    assert re.fullmatch(pattern, PARAMETERS[name])
    assert not re.fullmatch(pattern, "FILL-IN")


def test_the_expanded_template_has_no_circular_dependency_and_no_warning(expanded: dict[str, Any]) -> None:
    found = [match for match in lint(expanded, regions=REGIONS) if match.rule.severity != "informational"]
    # SAM reads one parameter itself, and repeats the console's condition inside resources that have this condition.
    expected = ("GradualDeployment not used", "When setting condition 'HasConsole' to False from current status True")
    assert [str(match) for match in found if not any(text in match.message for text in expected)] == []


def test_the_console_exists_only_with_an_issuer_or_a_user_pool(expanded: dict[str, Any]) -> None:
    console = {name: resource for name, resource in expanded["Resources"].items() if name.startswith("Console")}
    pool = {"ConsolePool", "ConsolePoolDomain", "ConsolePoolClient", "ConsoleOperators"}
    assert {"ConsoleFunction", "ConsoleApi", "ConsoleRole", "ConsoleLogs", "ConsoleApiLogs"} < console.keys()
    for name, resource in console.items():
        assert resource["Condition"] == ("HasUserPool" if name in pool else "HasConsole"), name
    has_pool = {"Fn::Equals": [{"Ref": "ConsoleUserPool"}, "true"]}
    has_issuer = {"Fn::Not": [{"Fn::Equals": [{"Ref": "ConsoleIssuer"}, ""]}]}
    assert expanded["Conditions"]["HasConsole"] == {"Fn::Or": [has_pool, has_issuer]}
    assert expanded["Parameters"]["ConsoleIssuer"]["Default"] == ""
    assert expanded["Parameters"]["ConsoleUserPool"]["Default"] == "false"


def test_the_function_url_exists_only_where_it_is_asked_for_and_needs_both_permissions(
    expanded: dict[str, Any],
) -> None:
    resources = {name: each for name, each in expanded["Resources"].items() if name.startswith("TwilioWebhookUrl")}
    assert {each["Condition"] for each in resources.values()} == {"HasFunctionUrl"}
    url = resources.pop("TwilioWebhookUrl")["Properties"]
    assert url == {"TargetFunctionArn": {"Ref": "TwilioWebhookFunction"}, "Qualifier": "live", "AuthType": "NONE"}
    allowed = {each["Properties"]["Action"]: each["Properties"] for each in resources.values()}
    assert allowed["lambda:InvokeFunctionUrl"]["FunctionUrlAuthType"] == "NONE"
    # Without it every account could invoke the function itself.
    assert allowed["lambda:InvokeFunction"]["InvokedViaFunctionUrl"] is True
    assert {each["FunctionName"]["Ref"] for each in allowed.values()} == {"TwilioWebhookFunctionAliaslive"}


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({}, "CallbacksApi"),
        ({"PublicWebhookUrl": "https://sms.example.com"}, "https://sms.example.com"),
        ({"WebhookFunctionUrl": "true"}, "TwilioWebhookUrl"),
        ({"WebhookFunctionUrl": "former"}, "CallbacksApi"),
        ({"WebhookFunctionUrl": "former", "PublicWebhookUrl": "https://sms.example.com"}, "https://sms.example.com"),
    ],
)
def test_twilio_posts_to_the_address_that_the_parameters_say(
    given: dict[str, str], address: str, expanded: dict[str, Any]
) -> None:
    defaults = {name: str(its.get("Default", "")) for name, its in expanded["Parameters"].items()}
    for function in ("ProcessRetriesFunction", "SendSmsFunction", "RetrySmsFunction"):
        variables = expanded["Resources"][function]["Properties"]["Environment"]["Variables"]
        value = chosen(variables["PUBLIC_WEBHOOK_URL"], expanded["Conditions"], defaults | given)
        assert value == address or value["Fn::GetAtt"][0] == address


def chosen(value: Any, conditions: dict[str, Any], given: dict[str, str]) -> Any:
    """A value in which each Fn::If is decided, and each parameter has its value."""
    match value:
        case {"Fn::If": [name, yes, no]}:
            return chosen(yes if chosen(conditions[name], conditions, given) else no, conditions, given)
        case {"Fn::Not": [inner]}:
            return not chosen(inner, conditions, given)
        case {"Fn::Equals": [left, right]}:
            return chosen(left, conditions, given) == chosen(right, conditions, given)
        case {"Ref": name} if name in given:
            return given[name]
    return value


def test_the_user_pool_has_no_self_sign_up_and_a_second_factor_for_every_user(expanded: dict[str, Any]) -> None:
    pool = expanded["Resources"]["ConsolePool"]["Properties"]
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert (pool["MfaConfiguration"], pool["EnabledMfas"]) == ("ON", ["SOFTWARE_TOKEN_MFA"])
    client = expanded["Resources"]["ConsolePoolClient"]["Properties"]
    assert client["AllowedOAuthFlows"] == ["code"]
    assert client["CallbackURLs"] == [{"Fn::Sub": "${ConsoleApi.ApiEndpoint}/sign-in/done"}]
    operators = expanded["Resources"]["ConsoleOperators"]["Properties"]["GroupName"]
    variables = expanded["Resources"]["ConsoleFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["CONSOLE_OPERATOR_VALUE"]["Fn::If"][:2] == ["HasUserPool", operators]


def test_the_layer_installs_the_versions_of_the_lock_file() -> None:
    command = ["export", "--frozen", "--no-dev", "--no-emit-project", "--format", "requirements-txt"]
    exported = subprocess.run([find_uv_bin(), *command], cwd=ROOT, check=True, capture_output=True, text=True)
    wanted = (ROOT / "layers/dependencies/requirements.txt").read_text()
    assert exported.stdout == wanted, f"run: uv {' '.join(command)} > layers/dependencies/requirements.txt"
    assert "://" not in wanted


def test_uv_is_installed_by_the_hashes_of_the_lock_file() -> None:
    command = ["export", "--frozen", "--only-group", "setup", "--no-emit-project", "--format", "requirements-txt"]
    exported = subprocess.run([find_uv_bin(), *command], cwd=ROOT, check=True, capture_output=True, text=True)
    assert exported.stdout == (ROOT / "uv.txt").read_text(), f"run: uv {' '.join(command)} > uv.txt"
    assert "--require-hashes --requirement uv.txt" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", [*sorted(ENVIRONMENT.keys() - {"twilio_webhook"}), "twilio_status", "twilio_inbound"])
def test_every_function_has_an_example_event(name: str) -> None:
    assert isinstance(json.loads((ROOT / f"tests/events/{name}.json").read_text()), dict)


@pytest.mark.parametrize("name", ["twilio_status", "twilio_inbound"])
def test_the_example_callbacks_have_valid_signatures_for_the_local_stack(name: str) -> None:
    event = json.loads((ROOT / f"tests/events/{name}.json").read_text())
    local = json.loads((ROOT / "tests/env.json").read_text())["Parameters"]
    url = local["PUBLIC_WEBHOOK_URL"] + event["rawPath"]
    if event["rawQueryString"]:
        url += "?" + event["rawQueryString"]
    form = dict(parse_qsl(base64.b64decode(event["body"]).decode(), keep_blank_values=True))
    signature = event["headers"]["x-twilio-signature"]
    assert RequestValidator(local["TWILIO_AUTH_TOKEN"]).validate(url, form, signature)

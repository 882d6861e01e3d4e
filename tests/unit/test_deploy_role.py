"""The policies in deploy/role: the role that deploys may create every resource of the template, and only ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from deploy import section
from tests.unit.test_template import expand

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "deploy" / "role"
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: characters of a managed policy.
LONGEST = 6144
# The services whose name in IAM differs from that in CloudFormation.
SERVICES = {"ApiGatewayV2": "apigateway", "Cognito": "cognito-idp", "Custom": "lambda"}
# Actions that take no resource but "*", or whose resources have names that AWS chooses.
EVERYWHERE = {"Reading", "AccessLogsOfApis", "ReadingOfRds", "SecurityGroups", "RandomPassword"}
ENVIRONMENTS = ("dev", "staging", "prod")


def statements(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROLE / name).read_text())["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def services(*names: str) -> set[str]:
    """The services in which the policies allow more than to read."""
    given = (each for name in names for each in statements(name) if each["Sid"] not in {"Reading", "ReadingOfRds"})
    return {action.partition(":")[0] for each in given for action in listed(each["Action"])}


def needed(expanded: dict[str, Any], own_database: bool) -> set[str]:
    types = [
        each["Type"].split("::")
        for each in expanded["Resources"].values()
        if own_database or each.get("Condition") != "CreatesDatabase"
    ]
    return {SERVICES.get(kind[0]) or SERVICES.get(kind[1]) or kind[1].lower() for kind in types}


def test_the_role_may_create_every_resource_of_the_template() -> None:
    expanded = expand()
    # The artifacts and the stack itself are not in the template.
    of_sam = {"cloudformation", "s3"}
    assert needed(expanded, own_database=False) | of_sam <= services("policy.json")
    assert needed(expanded, own_database=True) <= services("policy.json", "policy-create-database.json")
    assert "rds" not in services("policy.json")


@pytest.mark.parametrize("name", ["policy.json", "policy-create-database.json"])
def test_the_role_writes_only_what_has_our_name(name: str) -> None:
    document = (ROLE / name).read_text()
    assert len("".join(document.split())) <= LONGEST
    for each in statements(name):
        assert each["Action"] != "*"
        if each["Sid"] not in EVERYWHERE:
            assert "*" not in listed(each["Resource"]), each["Sid"]
    for each in statements("policy.json"):
        if each["Sid"] in {"Functions", "Roles", "RolesOfServices", "Schedules", "QueueTopicAndBus"}:
            assert all("sms-retry-" in resource for resource in listed(each["Resource"])), each["Sid"]


def test_a_statement_for_every_resource_changes_none_of_ours() -> None:
    [reading] = [each for each in statements("policy.json") if each["Sid"] == "Reading"]
    reads = ("Describe", "Get", "List", "Validate", "GET")
    assert [each for each in reading["Action"] if not each.partition(":")[2].startswith(reads)] == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_stacks_of_samconfig_have_names_that_the_role_may_use(environment: str) -> None:
    assert section.read(ROOT / "samconfig.toml", environment).stack.startswith("sms-retry-")


def test_only_the_environments_of_the_workflow_may_assume_the_role() -> None:
    workflow = yaml_parse((ROOT / ".github/workflows/deploy.yml").read_text())
    # YAML 1.1 reads the key `on` as true.
    given = workflow.get("on") or workflow[True]
    assert tuple(given["workflow_dispatch"]["inputs"]["environment"]["options"]) == ENVIRONMENTS
    [trust] = statements("trust.json")
    condition = trust["Condition"]["StringEquals"]
    assert condition["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    assert condition["token.actions.githubusercontent.com:sub"] == [
        f"repo:OWNER/REPOSITORY:environment:{each}" for each in ENVIRONMENTS
    ]

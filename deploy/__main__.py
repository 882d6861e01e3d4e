"""`python -m deploy ENVIRONMENT [Name=value ...]`: one deployment, from the checks to its end."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ProfileNotFound

from deploy import check, section, stack

ROOT = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy")
    parser.add_argument("environment", help="a section of samconfig.toml: dev, staging or prod")
    parser.add_argument("overrides", nargs="*", metavar="Name=value", help="parameters beside those of the section")
    parser.add_argument("--built", type=Path, default=ROOT / ".aws-sam" / "build", help="the output of `sam build`")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    given = parser.parse_intermixed_args()
    try:
        return deploy(given.environment, given.built, section.overrides(given.overrides), given.yes)
    except section.Refused as refused:
        print("Nothing was deployed:", *refused.args, sep="\n  ", file=sys.stderr)
        return 1


def deploy(environment: str, built: Path, more: Mapping[str, str], yes: bool) -> int:
    """The exit code of `sam deploy`. Raises section.Refused if a check fails."""
    template = built / "template.yaml"
    if not template.is_file():
        raise section.Refused(f"{template} is missing: run `make build`.")
    its = section.read(ROOT / "samconfig.toml", environment)
    its = replace(its, given={**its.given, **more})
    parameters = section.parameters(template, its)
    try:
        session = boto3.Session(region_name=its.region, profile_name=its.profile)
    except ProfileNotFound as missing:
        raise section.Refused(f"{missing}: correct AWS_PROFILE, or `profile` in the section.") from None
    found = check.check(session, parameters, built)
    before = stack.find(session, its.stack)
    if faults := [*found.faults, *stack.fixed(before, parameters)]:
        raise section.Refused(*faults)
    stack.can_be_deployed(before, its.stack)
    _say(session, its, before, parameters)
    print(*(f"note: {note}" for note in found.notes), sep="\n", flush=True)
    code = _sam_deploy(its, template, parameters, yes)
    if code:
        _explain(session, its.stack)
    return code


def _say(session: Any, its: section.Section, before: Any, parameters: Mapping[str, str]) -> None:
    """Print the changes of the deployment. No parameter is a secret."""
    does = "updates" if before else "creates"
    print(f"{does} {its.stack} in {check.account(session)}, {session.region_name}, for {parameters['Architecture']}")
    gradual = before and parameters["GradualDeployment"] == "true"
    print("new code takes traffic gradually" if gradual else "new code takes all traffic at once")
    for name, old, new in stack.changes(before, parameters):
        print(f"  {name}: {new or '(empty)'}" + (f", was {old or '(empty)'}" if old is not None else ""))


def _sam_deploy(its: section.Section, template: Path, parameters: Mapping[str, str], yes: bool) -> int:
    # A file carries the values: on its command line SAM does not take an empty value as it stands.
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
        json.dump(parameters, values)
        values.flush()
        command = ["sam", "deploy", "--config-file", str(ROOT / "samconfig.toml"), "--config-env", its.environment]
        command += ["--template-file", str(template), "--parameter-overrides", f"file://{values.name}"]
        command += ["--no-confirm-changeset"] if yes or "CI" in os.environ else []
        return subprocess.run(command, check=False).returncode


def _explain(session: Any, name: str) -> None:
    found = stack.find(session, name)
    if found is None:
        return
    print(f"\n{name} is in {found['StackStatus']}:", *stack.reasons(session, name), sep="\n  ", file=sys.stderr)
    if found["StackStatus"] in stack.NEVER_WHOLE:
        print(stack.delete_first(name), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

"""The checks before a deployment: each fault that would end it is one sentence."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from deploy.section import Refused

# The fields that a secret must have; an API key may replace the auth token of Twilio. No value is printed.
DATABASE_SECRET = ("host", "port", "username", "password", "dbname")
API_KEY = ("api_key_sid", "api_key_secret")
RDS_SECRET = "The secret that RDS creates has only username and password: create another, or sign in by IAM."
# The bytes of an ELF file that name its machine, and their values.
MACHINE = slice(18, 20)
MACHINES = {b"\x3e\x00": "x86_64", b"\xb7\x00": "arm64"}
# https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionConcurrency.html: executions that must stay unreserved.
UNRESERVED = 100
# The root certificates of RDS that the functions trust, by region.
ROOTS = Path(__file__).parents[1] / "layers" / "sms_retry" / "python" / "sms_retry" / "rds_ca.pem"
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


@dataclass
class Findings:
    """Faults end the deployment. Notes are checks that could not run, and facts worth knowing."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(session: Any, parameters: Mapping[str, str], built: Path) -> Findings:
    """Raises Refused at once if region or credentials are missing: every other check needs them."""
    account(session)
    found = Findings()
    found.faults += architecture(built, parameters["Architecture"])
    senders = _with_token_or_key if parameters["TwilioWebhookSecretArn"] else _with_token
    checks: tuple[tuple[str, Callable[[], Iterator[str]]], ...] = (
        ("DatabaseSecretArn", lambda: secret(session, "DatabaseSecretArn", parameters, _database_secret)),
        ("MigrationSecretArn", lambda: secret(session, "MigrationSecretArn", parameters, _database_secret)),
        ("TwilioSecretArn", lambda: secret(session, "TwilioSecretArn", parameters, senders)),
        ("TwilioWebhookSecretArn", lambda: secret(session, "TwilioWebhookSecretArn", parameters, _with_token)),
        ("ReservedWorkers", lambda: concurrency(session, parameters)),
        ("VpcSubnetIds", lambda: subnets(session, parameters)),
    )
    found.faults += root(parameters, session.region_name)
    for name, look in checks:
        try:
            found.faults += look()
        except ClientError as error:
            if error.response["Error"]["Code"] not in DENIED:
                found.faults.append(f"{name}: {error}")
            else:
                found.notes.append(f"{name} was not checked: your credentials do not allow {error.operation_name}.")
    return found


def account(session: Any) -> str:
    """The id of the account that the credentials are for."""
    if not session.region_name:
        raise Refused("No region is set: set AWS_DEFAULT_REGION, or `region` in the section of samconfig.toml.")
    try:
        return str(session.client("sts").get_caller_identity()["Account"])
    except (BotoCoreError, ClientError) as error:
        raise Refused(f"AWS cannot use your credentials: {error}. Try `aws sts get-caller-identity`.") from error


def architecture(built: Path, wanted: str) -> Iterator[str]:
    """The layers hold machine code, and a function of another architecture cannot load it."""
    libraries = sorted((built / "DependenciesLayer").rglob("*.so"))
    if not libraries:
        yield f"{built} contains no layer: run `make build`."
        return
    with libraries[0].open("rb") as library:
        found = MACHINES.get(library.read(MACHINE.stop)[MACHINE])
    if found != wanted:
        yield f"Architecture is {wanted}, and the layers are {found}: run `make deploy ARCHITECTURE={wanted}`."


def secret(
    session: Any, parameter: str, parameters: Mapping[str, str], shape: Callable[[Mapping[str, Any]], Iterator[str]]
) -> Iterator[str]:
    """The functions must find the secret and the fields that they need."""
    if not (arn := parameters.get(parameter, "")):
        return
    if (region := arn.split(":")[3]) != session.region_name:
        yield f"{parameter} is in {region}: it must be in the region of the stack, {session.region_name}."
        return
    try:
        text = session.client("secretsmanager").get_secret_value(SecretId=arn).get("SecretString", "")
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        yield f"{parameter}: the secret {arn} does not exist in this account."
        return
    try:
        kept = json.loads(text)
    except ValueError:
        kept = None
    if isinstance(kept, dict):
        yield from (f"{parameter}: {fault}" for fault in shape(kept))
    else:
        yield f'{parameter}: the secret must be a JSON object, such as {{"username": "...", "password": "..."}}.'


def concurrency(session: Any, parameters: Mapping[str, str]) -> Iterator[str]:
    reserved, workers = int(parameters["ReservedWorkers"]), int(parameters["MaxWorkers"])
    if not reserved:
        return
    if reserved < workers:
        yield f"ReservedWorkers={reserved} is below MaxWorkers={workers}, which could never run: give {workers + 2}."
    limit = session.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    if limit - reserved < UNRESERVED:
        yield (
            f"ReservedWorkers={reserved} leaves less than {UNRESERVED} of the account's {limit} concurrent executions,"
            " which AWS refuses: leave it out until AWS has raised the limit (Service Quotas, Lambda)."
        )


def subnets(session: Any, parameters: Mapping[str, str]) -> Iterator[str]:
    """A database of the stack lies in two availability zones at least."""
    ids = [each for each in re.split(r"[,\s]+", parameters["VpcSubnetIds"]) if each]
    if parameters["CreateDatabase"] != "true":
        return
    if len(ids) < 2:
        yield "CreateDatabase needs two subnets or more in VpcSubnetIds, in two availability zones."
        return
    found = session.client("ec2").describe_subnets(SubnetIds=ids)["Subnets"]
    if len({each["AvailabilityZone"] for each in found}) < 2:
        yield "CreateDatabase needs subnets in two availability zones, and all of VpcSubnetIds are in one."
    if {each["VpcId"] for each in found} != {parameters["VpcId"]}:
        yield f"VpcSubnetIds are not all in {parameters['VpcId']}, which is VpcId."


def root(parameters: Mapping[str, str], region: str) -> Iterator[str]:
    """Migrate creates a role in the database of the stack, and trusts it only by the root of RDS for its region."""
    encoded = re.findall("-----BEGIN CERTIFICATE-----(.+?)-----END", ROOTS.read_text(), re.DOTALL)
    if parameters["CreateDatabase"] == "true" and not any(
        f"RDS {region} Root ".encode() in base64.b64decode(each) for each in encoded
    ):
        yield (
            f"CreateDatabase: {ROOTS.name} has no root certificate of RDS for {region}. Add the certificates of"
            f" https://truststore.pki.rds.amazonaws.com/{region}/{region}-bundle.pem to it, and build again."
        )


def _database_secret(kept: Mapping[str, Any]) -> Iterator[str]:
    if missing := [name for name in DATABASE_SECRET if name not in kept]:
        hint = f" {RDS_SECRET}" if {"username", "password"}.isdisjoint(missing) else ""
        yield f"the secret has no {', '.join(missing)}.{hint}"


def _with_token(kept: Mapping[str, Any]) -> Iterator[str]:
    """Twilio signs callbacks with the auth token."""
    if missing := [name for name in ("account_sid", "auth_token") if not kept.get(name)]:
        yield f"the secret has no {', '.join(missing)}."


def _with_token_or_key(kept: Mapping[str, Any]) -> Iterator[str]:
    """An API key is enough to send."""
    if not all(kept.get(name) for name in ("account_sid", *API_KEY)):
        yield from _with_token(kept)

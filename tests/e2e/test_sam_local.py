"""The output of `sam build` in Lambda's own container: `sam local` with the stack on this machine."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urldefrag, urlencode, urlsplit

import pytest
from samcli.local.docker.lambda_image import LambdaImage
from twilio.request_validator import RequestValidator

from local.aws.build import ARCHITECTURE, PARAMETERS, SHELL
from local.commands import dev
from local.stack import ENVIRONMENT, Stack
from local.twilio.stand_in import Refuse
from local.waiting import let_time_pass
from tests.e2e.messages import message, number, posts_to, private_lines, queue, statuses

# All tests of the build run on one worker of pytest-xdist, which builds and starts once.
pytestmark = pytest.mark.xdist_group("sam build")

IMAGE = f"{LambdaImage._INVOKE_REPO_PREFIX}/python:3.13-{ARCHITECTURE}"
THIS_MACHINE = "host.docker.internal"


@pytest.fixture(scope="session")
def engine() -> None:
    """A container engine with Lambda's image."""

    def answers(*command: str) -> bool:
        return subprocess.run(["docker", *command], capture_output=True).returncode == 0

    if not shutil.which("docker") or not answers("info"):
        pytest.skip("no container engine: `docker info` does not answer")
    if not answers("image", "inspect", IMAGE):
        pytest.skip(f"the container engine has no image {IMAGE}")


@pytest.fixture(scope="module")
def local(engine: None, built: Path, stack_of_the_session: Stack) -> Iterator[list[str]]:
    """The arguments of every `sam local`, with which its containers reach this stack."""
    parts = stack_of_the_session
    urls = {name: url + "?sslmode=disable" * url.startswith("postgresql") for name, url in parts.urls.items()}
    variables = ENVIRONMENT | {name: url.replace("127.0.0.1", THIS_MACHINE) for name, url in urls.items()}
    (built / "env.json").write_text(json.dumps({"Parameters": variables}))
    given = ["--template", str(built / "template.yaml"), "--env-vars", str(built / "env.json"), *PARAMETERS]
    postgres_port = urlsplit(parts.database_url).port
    with (
        mock.patch.multiple(dev, POSTGRES_PORT=postgres_port, TWILIO_PORT=parts.twilio.port),
        dev._reachable_from_containers(),
    ):
        yield [*given, "--skip-pull-image", "--add-host", f"{THIS_MACHINE}:host-gateway"]


@pytest.fixture(scope="module")
def api(local: list[str], built: Path) -> Iterator[str]:
    """The URL of `sam local start-api`; afterwards, its log and those of its containers have no private data."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["sam", "local", "start-api", "--port", str(port), "--warm-containers", "LAZY", *local]
    log = built / "log"
    with log.open("w") as lines, subprocess.Popen(command, env=SHELL, stdout=lines, stderr=lines) as process:
        try:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            # It ends its containers too.
            process.terminate()
    assert not private_lines(log.read_text())


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 60
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        assert process.poll() is None, "`sam local start-api` ended"
        assert time.monotonic() < give_up, "`sam local start-api` does not listen"
        time.sleep(0.05)


def post(api: str, url: str, form: dict[str, str], token: str) -> int:
    """The status of the answer to a form, signed with `token` for the public `url` and posted to `api`."""
    headers = {
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
        "X-Twilio-Signature": RequestValidator(token).compute_signature(url, form),
    }
    here = url.replace(ENVIRONMENT["PUBLIC_WEBHOOK_URL"], api)
    request = urllib.request.Request(here, urlencode(form).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as rejected:
        with rejected:
            return rejected.code


def test_a_container_applies_only_a_callback_that_twilio_has_signed(stack: Stack, api: str) -> None:
    sid = stack.invoke("send_sms", message())["provider_sid"]
    url = urldefrag(stack.twilio.posts()[0].form["StatusCallback"]).url
    form = {"MessageSid": sid, "MessageStatus": "delivered", "To": number(0), "ErrorCode": ""}

    assert post(api, url, form, token="a guess") == 403
    assert statuses(stack) == {"sent": 1}
    assert post(api, url, form, token=stack.twilio.auth_token) == 204
    assert statuses(stack) == {"delivered": 1}


def invoke(function: str, event: object, local: list[str]) -> Any:
    """The output of `sam local invoke`. Its exit code is 0 even if the function fails."""
    done = subprocess.run(
        ["sam", "local", "invoke", function, "--event", "-", *local],
        input=json.dumps(event),
        env=SHELL,
        capture_output=True,
        text=True,
    )
    assert not private_lines(done.stderr)
    assert done.stdout.strip(), done.stderr
    return json.loads(done.stdout)


def test_containers_migrate_send_and_send_again(stack: Stack, local: list[str]) -> None:
    assert invoke("MigrateFunction", {}, local)["functions"] > 0

    stack.twilio.plan(number(0), Refuse(503, 20503))
    sent = invoke("SendSmsFunction", message(0), local)
    assert (sent["status"], sent["provider_sid"]) == ("queued", None)

    queue(stack, 1)
    let_time_pass(stack.db, minutes=10)
    tick = invoke("ProcessRetriesFunction", {}, local)
    assert (tick["processed"], tick["success"]) == (2, 2)
    assert statuses(stack) == {"sent": 2}
    assert [posts_to(stack, n) for n in range(2)] == [2, 1]

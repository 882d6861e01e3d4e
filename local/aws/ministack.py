"""An AWS account on loopback, for as long as a `with` lasts: MiniStack, with what `ministack_gaps` adds to it.

It runs on Python 3.13, and so do the Lambdas, each container a process. IAM is enforced: a role must allow what its
Lambda does. Reserved concurrency is not, no alarm goes off, and the API's limits and access log are only kept.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from local.aws.container import ACCOUNT, REGION
from local.postgres.server import free_port

# Bytes; a container is about 100 million.
ENOUGH = 4_000_000_000
# What the process runs. It ends when its standard input closes, which the system does whatever we die of.
SERVER = Path(__file__).with_name("ministack_gaps.py")


@contextmanager
def ministack(python: Path) -> Iterator[Ministack]:
    """An empty account, gone afterwards. `python` is a 3.13 that has uv.lock's group `aws`.

    Raises RuntimeError, with the end of its log, when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="sms-retry-aws-", dir=_place()) as folder:
        port, log = free_port(), Path(folder, "log")
        # Its functions are given all of it, so there is nothing in it that is ours.
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": folder,
            "TMPDIR": folder,
            "STATE_DIR": folder,
            "S3_DATA_DIR": folder,
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_REGION": REGION,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "LAMBDA_EXECUTOR": "local",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "AUTH": "true",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        # In a session of its own, so that a Ctrl-C does not end it before we are done with it.
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": log.open("w"), "stderr": subprocess.STDOUT}
        command = [str(python), "-I", str(SERVER)]
        with (
            streams["stdout"],
            subprocess.Popen(command, env=environment, start_new_session=True, **streams) as process,
        ):
            try:
                _wait_until_ready(process, port, log)
                yield Ministack(port, Path(folder))
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Ministack:
    """An account that is up, and a folder that goes with it."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str) -> Any:
        """boto3's."""
        login = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **login)

    def keep_secret(self, name: str, secret: Mapping[str, object]) -> str:
        """The ARN of what Secrets Manager then keeps."""
        kept = self.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(secret))
        return str(kept["ARN"])

    @property
    def shell(self) -> dict[str, str]:
        """What leads the AWS CLI and SAM here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
        }


def _place() -> str | None:
    """In memory where there is enough: each container unpacks its layers, and the end is a matter of removing them."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > ENOUGH else None


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < give_up:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health") as answer:
            if json.load(answer)["ready_scripts"]["status"] == "completed":
                return
        time.sleep(0.1)
    raise RuntimeError("MiniStack did not start:\n" + "\n".join(log.read_text().splitlines()[-10:]))

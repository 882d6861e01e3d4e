"""An AWS account on loopback for the duration of a `with`: MiniStack, with the additions of `ministack_gaps`.

MiniStack and the Lambdas run on Python 3.13; each Lambda container is a process. IAM is enforced. Not enforced:
reserved concurrency and the API's limits. Alarms never change their state, and the API writes no access log.
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

# Bytes; a container takes about 100 million.
ENOUGH = 4_000_000_000
# The program of the process. It ends when its standard input closes, also if this process is killed.
SERVER = Path(__file__).with_name("ministack_gaps.py")


@contextmanager
def ministack(python: Path) -> Iterator[Ministack]:
    """A temporary empty account. `python` is a Python 3.13 with uv.lock's group `aws`.

    Raises RuntimeError, with the end of its log, if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="sms-retry-aws-", dir=_temporary_folder()) as folder:
        port, log = free_port(), Path(folder, "log")
        # MiniStack passes its whole environment to the functions, so it gets no variable of ours.
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
        # A new session: a Ctrl-C must not end it before this process has finished with it.
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
    """A running account, and a folder that is removed at its end."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str) -> Any:
        """A boto3 client of this account."""
        login = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **login)

    def create_secret(self, name: str, secret: Mapping[str, object]) -> str:
        """Create a secret in Secrets Manager and return its ARN."""
        created = self.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(secret))
        return str(created["ARN"])

    @property
    def shell(self) -> dict[str, str]:
        """The environment variables that direct the AWS CLI and SAM to this account."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
        }


def _temporary_folder() -> str | None:
    """A folder in memory if it has enough space, because each container unpacks its layers; None for the default."""
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

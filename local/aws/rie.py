"""Lambda's own runtime without a container: what `sam build` left, under the Runtime Interface Emulator of SAM's wheel.

One emulator is one execution environment. It starts the function's process at the first event, kills it when its time
is up, and starts another for the event after that. Linux alone can run it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import samcli
from samcli.lib.providers.provider import Function
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
from samcli.local.lambdafn.env_vars import EnvironmentVariables

from local.aws import build
from local.aws.container import REGION, ROOT
from local.waiting import wait_until

EMULATOR = Path(samcli.__file__).parent / "local" / "rapid" / f"aws-lambda-rie-{build.ARCHITECTURE}"
# How long an answer may take beyond the function's timeout, on however slow a machine (seconds).
GRACE = 60


@dataclass(frozen=True, slots=True)
class Returned:
    answer: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The handler's exception, its trace by lines."""

    error_type: str
    message: str
    trace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Lambda killed the process."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The process could not start (`Runtime.ImportModuleError`), or ended by itself or by a signal."""

    error_type: str
    message: str


Outcome = Returned | Raised | TimedOut | Exited


@dataclass(frozen=True)
class ExecutionEnvironment:
    """One environment of a function. It handles one event at a time; another caller waits."""

    function: str
    timeout: int
    _emulator: subprocess.Popen[bytes]
    _port: int
    _log: Path
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, event: object = None) -> Outcome:
        """`{}` is the event where none is given. OSError: the environment was ended meanwhile."""
        url = f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations"
        data = json.dumps({} if event is None else event).encode()
        # Two events at once would crash the emulator.
        with self._busy:
            try:
                with urllib.request.urlopen(url, data, timeout=self.timeout + GRACE) as response:
                    return _outcome(response.read())
            except urllib.error.HTTPError as failed:
                with failed:
                    error = json.load(failed)
                return Exited(error["errorType"], error["errorMessage"])

    @property
    def pid(self) -> int:
        """Of the function's process. LookupError: there is none, before the first event or since it ended."""
        for pid in processes(self._emulator.pid):
            if pid != self._emulator.pid:
                return pid
        raise LookupError(f"{self.function} has no process: the next event starts one")

    def freeze(self) -> None:
        """Nothing of the process runs when this returns, as between two events on Lambda."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        # Stopped, or dead before it could be.
        wait_until(lambda: not (its := _stat(pid)) or its.state in "TZX")

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def log(self) -> str:
        """What it has logged so far, the emulator's lines and the function's."""
        return self._log.read_text(errors="replace")


@contextmanager
def execution_environment(
    built: Path,
    function: str,
    variables: Mapping[str, str],
    log: TextIO,
    *,
    timeout: int | None = None,
    options: Sequence[str] = (),
) -> Iterator[ExecutionEnvironment]:
    """An environment of a function in `built`, the folder that `sam build` filled, on free ports of loopback.

    Like `sam local` it takes memory, timeout (unless given, in seconds) and environment from the built template, and of
    `variables` those that the template names. Python is given `options`. At the end all that it logged goes to `log`,
    and no process is left, whatever happens.
    """
    its = functions(built)[function]
    seconds = int(its.timeout or 3) if timeout is None else timeout
    environ = _environment(its, variables, seconds)
    command = [str(build.runtime()), *options, "-m", "awslambdaric", str(its.handler)]
    with tempfile.NamedTemporaryFile() as lines:
        emulator, port = _started(command, its.codeuri or "", environ, lines.fileno())
        try:
            yield ExecutionEnvironment(function, seconds, emulator, port, Path(lines.name))
        finally:
            _end(emulator)
            log.write(Path(lines.name).read_text(errors="replace"))


@contextmanager
def fleet(size: int, *given: Any, **options: Any) -> Iterator[list[ExecutionEnvironment]]:
    """So many environments of one function side by side; the rest is as for `execution_environment`."""
    with ExitStack() as opened:
        yield [opened.enter_context(execution_environment(*given, **options)) for _ in range(size)]


@cache
def functions(built: Path) -> dict[str, Function]:
    """The functions as SAM reads them in the built template, by the names of the folders they were built from."""
    folders = {its.function_id: Path(its.codeuri or "").name for its in _read(ROOT / "template.yaml")}
    return {folders[its.function_id]: its for its in _read(built / "template.yaml")}


def _read(template: Path) -> list[Function]:
    with warnings.catch_warnings():
        # SAM warns of its own doings.
        warnings.simplefilter("ignore", DeprecationWarning)
        stacks, _ = SamLocalStackProvider.get_stacks(str(template))
        return list(SamFunctionProvider(stacks).get_all())


def _environment(its: Function, variables: Mapping[str, str], timeout: int) -> dict[str, str]:
    layers = [str(Path(layer.codeuri or "") / "python") for layer in its.layers]
    lambdas: dict[str, str] = EnvironmentVariables(
        function_name=its.function_id,
        function_memory=its.memory,
        function_timeout=timeout,
        function_handler=its.handler,
        function_logging_config=its.logging_config,
        variables=(its.environment or {}).get("Variables"),
        override_values=variables,
        aws_creds={"region": REGION, "key": "none", "secret": "none"},
    ).resolve()
    return lambdas | {
        "LAMBDA_TASK_ROOT": its.codeuri or "",
        # On Lambda a later layer lies over an earlier one.
        "PYTHONPATH": os.pathsep.join(reversed(layers)),
        # The built folders stay as `sam build` left them.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.defpath,
        "TZ": ":UTC",
    }


def _started(
    command: list[str], folder: str, environ: dict[str, str], lines: int
) -> tuple[subprocess.Popen[bytes], int]:
    """An emulator that listens. It ends at once where somebody took a port of it first, and is started on others."""
    for _ in range(5):
        port, runtime_api = _free_ports(2)
        addresses = [
            *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
            *("--runtime-api-address", f"127.0.0.1:{runtime_api}"),
        ]
        emulator = subprocess.Popen(
            [str(EMULATOR), "--log-level", "error", *addresses, *command],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )
        while emulator.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return emulator, port
            time.sleep(0.005)
    raise RuntimeError(f"{EMULATOR.name} ends before it listens")


def _free_ports(how_many: int) -> list[int]:
    with ExitStack() as held:
        taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(how_many)]
        return [each.getsockname()[1] for each in taken]


def _end(emulator: subprocess.Popen[bytes]) -> None:
    """Until nothing is left: it may just be starting another process."""
    while alive := processes(emulator.pid):
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    emulator.wait()


def processes(session: int) -> list[int]:
    """Those of a session that live, also where the emulator that started them does not."""
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [pid for pid in pids if (its := _stat(pid)) and its.session == session and its.state not in "ZX"]


@dataclass(frozen=True, slots=True)
class _Stat:
    """A process: one letter for its state, as in `ps`, and the session it belongs to."""

    state: str
    session: int


def _stat(pid: int) -> _Stat | None:
    with suppress(OSError):
        state, _parent, _group, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
        return _Stat(state, int(session))
    return None


def _outcome(body: bytes) -> Outcome:
    """What the emulator answers with status 200; a timeout is no JSON."""
    if body.startswith(b"Task timed out after "):
        return TimedOut()
    match json.loads(body):
        case {"errorType": kind, "errorMessage": message, "stackTrace": trace}:
            return Raised(kind, message, tuple(trace))
        case answer:
            return Returned(answer)

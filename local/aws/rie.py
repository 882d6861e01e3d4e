"""Lambda's own runtime without a container: the output of `sam build` under the Runtime Interface Emulator of SAM.

One emulator is one execution environment. It starts the function's process at the first event, kills the process at
its timeout, and starts another for the next event. It runs on Linux only.
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
# The time that an answer may take beyond the function's timeout, enough for a slow machine (seconds).
GRACE = 60


@dataclass(frozen=True, slots=True)
class Returned:
    answer: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The handler's exception, with the lines of its trace."""

    error_type: str
    message: str
    trace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Lambda killed the process."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The process could not start (`Runtime.ImportModuleError`), or exited, or a signal ended it."""

    error_type: str
    message: str


Outcome = Returned | Raised | TimedOut | Exited


@dataclass(frozen=True)
class ExecutionEnvironment:
    """One environment of a function. It handles one event at a time; other callers wait."""

    function: str
    timeout: int
    _emulator: subprocess.Popen[bytes]
    _port: int
    _log: Path
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, event: object = None) -> Outcome:
        """The default event is `{}`. OSError: the environment was ended meanwhile."""
        url = f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations"
        data = json.dumps({} if event is None else event).encode()
        # Two events at once would crash the emulator.
        with self._busy:
            began = time.monotonic()
            try:
                with urllib.request.urlopen(url, data, timeout=self.timeout + GRACE) as response:
                    return _outcome(response.read())
            except urllib.error.HTTPError as failed:
                with failed:
                    error = json.load(failed)
        # At the timeout the emulator cancels the event; on a slow machine the cancelled event answers first.
        if "ErrGateCanceled" in str(error) and time.monotonic() - began >= self.timeout:
            return TimedOut()
        return Exited(error["errorType"], error["errorMessage"])

    @property
    def pid(self) -> int:
        """The function's process. LookupError: it does not run, before the first event or after its end."""
        for pid in processes(self._emulator.pid):
            if pid != self._emulator.pid:
                return pid
        raise LookupError(f"{self.function} has no process: the next event starts one")

    def freeze(self) -> None:
        """Stop the process, as Lambda does between two events. No part of it runs when this returns."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        # Stopped, or dead before the signal.
        wait_until(lambda: not (process := _stat(pid)) or process.state in "TZX")

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def log(self) -> str:
        """The lines that the emulator and the function have logged so far."""
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
    """An environment of a function in `built`, the folder of `sam build`, on free ports of loopback.

    Like `sam local` it takes memory, timeout (unless given, in seconds) and environment from the built template, and of
    `variables` those that the template names. `options` are options of Python. At the end its log is written to `log`,
    and all its processes are killed.
    """
    declared = functions(built)[function]
    seconds = int(declared.timeout or 3) if timeout is None else timeout
    environ = _environment(declared, variables, seconds)
    command = [str(build.runtime()), *options, "-m", "awslambdaric", str(declared.handler)]
    with tempfile.NamedTemporaryFile() as lines:
        emulator, port = _start(command, declared.codeuri or "", environ, lines.fileno())
        try:
            yield ExecutionEnvironment(function, seconds, emulator, port, Path(lines.name))
        finally:
            _end(emulator)
            log.write(Path(lines.name).read_text(errors="replace"))


@contextmanager
def fleet(size: int, *arguments: Any, **options: Any) -> Iterator[list[ExecutionEnvironment]]:
    """`size` environments of one function; the other arguments are those of `execution_environment`."""
    with ExitStack() as opened:
        yield [opened.enter_context(execution_environment(*arguments, **options)) for _ in range(size)]


@cache
def functions(built: Path) -> dict[str, Function]:
    """The functions that SAM reads from the built template, by the names of their source folders."""
    folders = {each.function_id: Path(each.codeuri or "").name for each in _read(ROOT / "template.yaml")}
    return {folders[each.function_id]: each for each in _read(built / "template.yaml")}


def _read(template: Path) -> list[Function]:
    with warnings.catch_warnings():
        # SAM's own code causes these warnings.
        warnings.simplefilter("ignore", DeprecationWarning)
        stacks, _ = SamLocalStackProvider.get_stacks(str(template))
        return list(SamFunctionProvider(stacks).get_all())


def _environment(declared: Function, variables: Mapping[str, str], timeout: int) -> dict[str, str]:
    layers = [str(Path(layer.codeuri or "") / "python") for layer in declared.layers]
    resolved: dict[str, str] = EnvironmentVariables(
        function_name=declared.function_id,
        function_memory=declared.memory,
        function_timeout=timeout,
        function_handler=declared.handler,
        function_logging_config=declared.logging_config,
        variables=(declared.environment or {}).get("Variables"),
        override_values=variables,
        aws_creds={"region": REGION, "key": "none", "secret": "none"},
    ).resolve()
    return resolved | {
        "LAMBDA_TASK_ROOT": declared.codeuri or "",
        # On Lambda a later layer overrides an earlier one.
        "PYTHONPATH": os.pathsep.join(reversed(layers)),
        # No bytecode is written into the built folders.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.defpath,
        "TZ": ":UTC",
    }


def _start(command: list[str], folder: str, environ: dict[str, str], lines: int) -> tuple[subprocess.Popen[bytes], int]:
    """An emulator that listens, and its port. It ends at once if one of its ports is taken; then others are tried."""
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
    raise RuntimeError(f"{EMULATOR.name} ended before it listened on a port")


def _free_ports(how_many: int) -> list[int]:
    with ExitStack() as opened:
        taken = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(how_many)]
        return [each.getsockname()[1] for each in taken]


def _end(emulator: subprocess.Popen[bytes]) -> None:
    """Kill until no process is left, because the emulator may be starting another one."""
    while alive := processes(emulator.pid):
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    emulator.wait()


def processes(session: int) -> list[int]:
    """The running processes of a session, also after the end of the emulator that started them."""
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [pid for pid in pids if (stat := _stat(pid)) and stat.session == session and stat.state not in "ZX"]


@dataclass(frozen=True, slots=True)
class _Stat:
    """A process: one letter for its state, as in `ps`, and its session."""

    state: str
    session: int


def _stat(pid: int) -> _Stat | None:
    with suppress(OSError):
        state, _parent, _group, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
        return _Stat(state, int(session))
    return None


def _outcome(body: bytes) -> Outcome:
    """Reads an answer of the emulator with status 200; the answer to a timeout is not JSON."""
    if body.startswith(b"Task timed out after "):
        return TimedOut()
    match json.loads(body):
        case {"errorType": kind, "errorMessage": message, "stackTrace": trace}:
            return Raised(kind, message, tuple(trace))
        case answer:
            return Returned(answer)

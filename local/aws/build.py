"""The Lambdas as `sam build` leaves them for this machine, and the Python that Lambda runs them on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

from uv import find_uv_bin

from local.aws.container import ROOT

ARCHITECTURE = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "arm64"
PARAMETERS = ("--parameter-overrides", f"Architecture={ARCHITECTURE}")
SHELL = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "LAMBDA_ARCHITECTURE": ARCHITECTURE,
    "SAM_CLI_TELEMETRY": "0",
}
VERSION = "3.13"


def sam_build(folder: Path) -> None:
    """The layers carry bytecode where this machine has a Python of Lambda's version."""
    _run(["sam", "build", "--build-dir", str(folder), *PARAMETERS], SHELL)


@cache
def _python() -> Path | None:
    """A Python of Lambda's version, found as the layers' Makefiles find it; None where this machine has none."""
    asked = [f"python{VERSION}", "-c", "import sys; print(sys.executable)"]
    try:
        found = subprocess.run(asked, env=os.environ | {"PYENV_VERSION": VERSION}, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return Path(found.stdout.strip()) if found.returncode == 0 else None


@cache
def runtime() -> Path | None:
    """That Python with what Lambda's runtime has; None where it is missing."""
    return environment("runtime") if _python() else None


@cache
def environment(group: str) -> Path:
    """That Python in an environment with one group of uv.lock, made once under build/. LookupError: it is missing.

    Several processes may ask at once: uv makes the others wait for the first.
    """
    if not (found := _python()):
        raise LookupError(f"There is no Python {VERSION}, which Lambda runs: put python{VERSION} on the PATH.")
    folder = ROOT / "build" / group
    environ = os.environ | {"UV_PROJECT_ENVIRONMENT": str(folder)}
    _run([find_uv_bin(), "sync", "--frozen", "--only-group", group, "--python", str(found)], environ)
    return folder / "bin" / "python"


def _run(command: list[str], environ: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

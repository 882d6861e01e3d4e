"""`sam build` for this machine, and a Python of Lambda's version to run the built Lambdas."""

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
    """The built layers contain bytecode if this machine has a Python of Lambda's version."""
    _run(["sam", "build", "--build-dir", str(folder), *PARAMETERS], SHELL)


@cache
def _python() -> Path | None:
    """A Python of Lambda's version, found as the layers' Makefiles find it; None if this machine has none."""
    asked = [f"python{VERSION}", "-c", "import sys; print(sys.executable)"]
    try:
        found = subprocess.run(asked, env=os.environ | {"PYENV_VERSION": VERSION}, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return Path(found.stdout.strip()) if found.returncode == 0 else None


@cache
def runtime() -> Path | None:
    """That Python with the packages of Lambda's runtime; None if this machine has none."""
    return environment("runtime") if _python() else None


@cache
def environment(group: str) -> Path:
    """The Python of an environment with one group of uv.lock, created once under build/.

    Several processes may call this at the same time: uv lets one install and the others wait.
    Raises LookupError if this machine has no Python of Lambda's version.
    """
    if not (found := _python()):
        raise LookupError(f"Python {VERSION}, the version of the Lambdas, is missing: put python{VERSION} on the PATH.")
    folder = ROOT / "build" / group
    environ = os.environ | {"UV_PROJECT_ENVIRONMENT": str(folder)}
    _run([find_uv_bin(), "sync", "--frozen", "--only-group", group, "--python", str(found)], environ)
    return folder / "bin" / "python"


def _run(command: list[str], environ: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

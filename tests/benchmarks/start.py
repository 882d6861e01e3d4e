"""The imports of a cold start, by handler, beside plain imports of the libraries; and the sizes of the layers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from local.stack import ENVIRONMENT
from tests.benchmarks.measure import Row, side_by_side
from tests.benchmarks.stage import Stage

ROOT = Path(__file__).parents[2]
HANDLERS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/app.py"))
PLAIN = "import twilio.rest, boto3, psycopg"
# The libraries for which `by_part` splits the import time; the rest is Python's own.
PARTS = ("aws_lambda_powertools", "psycopg", "twilio", "boto3", "botocore", "phonenumbers", "jinja2", "sms_retry")

TIMED = """
import sys, time
sys.path.insert(0, sys.argv[1])
started = time.perf_counter()
exec(sys.argv[2])
print(time.perf_counter() - started)
"""


def rows(stage: Stage) -> Iterator[Row]:
    measures = {name: partial(imported, f"functions/{name}", "import app") for name in HANDLERS}
    # The first send imports more modules, while Lambda waits.
    sending = "import app; from sms_retry import runtime; runtime.sender().__enter__()"
    measures["worker, to its first send"] = partial(imported, "functions/process_retries", sending)
    measures[PLAIN] = partial(imported, ".", PLAIN)
    for measure in measures.values():
        measure()  # writes the bytecode
    found = side_by_side(measures)
    for name in (*HANDLERS, "worker, to its first send"):
        goal = ("at most", 1.0) if name in ("process_retries", "twilio_webhook") or "worker" in name else None
        yield Row("start", f"import of {name}", "ms", found[name], PLAIN, found[PLAIN], goal)
    zipped, unzipped = layers()
    yield Row("start", "both layers, unzipped", "MiB", [unzipped], "Lambda's limit", [250.0], ("at most", 1.0))
    yield Row("start", "both layers, zipped", "MiB", [zipped], "Lambda's limit for an upload", [50.0], ("at most", 1.0))


def imported(folder: str, statement: str) -> float:
    """Milliseconds for `statement` in a new Python process, with bytecode in a cache."""
    done = _python("-c", TIMED, str(ROOT / folder), statement)
    return float(done.stdout) * 1000


def by_part(handler: str) -> dict[str, float]:
    """Milliseconds of one handler's import for each library and for the rest, by `-X importtime`."""
    source = f"import sys; sys.path.insert(0, 'functions/{handler}'); import app"
    _python("-c", source)  # writes the bytecode, which the layers contain
    listed = _python("-X", "importtime", "-c", source).stderr
    parts = dict.fromkeys((*PARTS, "Python's own"), 0.0)
    for self_us, module in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", listed):
        top = module.split(".")[0]
        name = "psycopg" if top.startswith("psycopg") else top
        parts[name if name in parts else "Python's own"] += int(self_us) / 1000
    return parts


def layers() -> tuple[float, float]:
    """The sizes of both layers together, zipped and unzipped, as `make build` makes them for arm64 (MiB)."""
    zipped = unzipped = 0
    for layer, target in (("dependencies", "DependenciesLayer"), ("sms_retry", "SmsRetryLayer")):
        with tempfile.TemporaryDirectory() as folder:
            environ = {**os.environ, "ARTIFACTS_DIR": folder}
            subprocess.run(["make", "-s", f"build-{target}"], cwd=ROOT / "layers" / layer, env=environ, check=True)
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            unzipped += sum(path.stat().st_size for path in files)
            archive = Path(folder, "layer.zip")
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zip_file:
                for path in files:
                    zip_file.write(path, path.relative_to(folder))
            zipped += archive.stat().st_size
    return zipped / 2**20, unzipped / 2**20


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    cache = ROOT / "build" / "bytecode"
    path = str(ROOT / "layers/sms_retry/python")
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPYCACHEPREFIX": str(cache), "PYTHONPATH": path}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    print(json.dumps({handler: by_part(handler) for handler in HANDLERS}, indent=1))

"""A worker's peak memory after a small backlog and after a large one, each in a new process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.measure import Row, side_by_side
from tests.benchmarks.stage import Stage, fill

SMALL, LARGE = 1_000, 30_000

# The worker, with a send that is answered at once. VmHWM is the peak memory of the process.
WORKER = """
import re, sys
from sms_retry import worker, twilio
from sms_retry.values import Accepted
from sms_retry.store import Store
tally = worker.drain(
    Store(lambda: sys.argv[1]), lambda claim, _: Accepted(f"SM{claim.id:032x}", 201), lambda: 300.0, 100)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(tally.success, int(peak[1]) / 1024)
"""


def rows(stage: Stage) -> Iterator[Row]:
    def peak(count: int) -> float:
        fill(stage.url, count)
        done = subprocess.run([sys.executable, "-c", WORKER, stage.url], check=True, capture_output=True, text=True)
        success, mebibytes = done.stdout.split()
        assert int(success) == count
        return float(mebibytes)

    found = side_by_side({"large": lambda: peak(LARGE), "small": lambda: peak(SMALL)}, runs=3)
    name = f"peak memory of a worker, {LARGE:,} messages, 100 in flight"
    yield Row("memory", name, "MiB", found["large"], f"{SMALL:,} messages", found["small"], ("at most", 1.1))

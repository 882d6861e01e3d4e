"""The task of the Celery worker: POST one message and count it as done."""

from __future__ import annotations

import os

from celery import Celery
from redis import Redis

from tests.benchmarks.limits import bare_post

BROKER = os.environ["BENCH_REDIS_URL"]
DONE = "done"

app = Celery("tests.benchmarks.celery_tasks", broker=BROKER)
# Acknowledged late, because a worker that dies would otherwise lose its tasks. Prefetched one at a time, because one
# thread would otherwise hold tasks that others could run.
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True)
_counter = Redis.from_url(BROKER)
_post = bare_post(os.environ["BENCH_TWILIO_URL"])


@app.task
def send(n: int) -> None:
    _post(n)
    _counter.incr(DONE)

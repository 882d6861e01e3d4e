"""Secrets of Secrets Manager: each is kept for five minutes, and read again early when it may have been rotated."""

from __future__ import annotations

import time
from typing import Any

# How long a secret is kept before it is read again (seconds).
LIFETIME = 300
# The least time between two early reads (seconds): anyone can post a forged callback, and some outages look like a
# refused password.
PAUSE = 60.0


class Secret:
    """One secret, by its ARN; its text is a JSON object. Raises Powertools' GetParameterError if it cannot be read."""

    def __init__(self, arn: str) -> None:
        self._arn = arn
        self._used: dict[str, Any] = {}
        # By the wall clock: the monotonic clock may stand still while the container is frozen.
        self._read_early_at = 0.0

    def value(self) -> dict[str, Any]:
        """The secret, at most LIFETIME seconds old."""
        return self._read(fresh=False)

    def newer(self) -> dict[str, Any] | None:
        """The secret, read early because the last `value` was refused; None if it is the same.

        None also within PAUSE seconds of the last early read.
        """
        if time.time() - self._read_early_at < PAUSE:
            return None
        self._read_early_at = time.time()
        refused = self._used
        found = self._read(fresh=True)
        return found if found != refused else None

    def _read(self, fresh: bool) -> dict[str, Any]:
        from aws_lambda_powertools.utilities import parameters

        text: Any = parameters.get_secret(self._arn, transform="json", max_age=LIFETIME, force_fetch=fresh)
        self._used = dict(text)
        return self._used

"""Debian's Chromium, headless, controlled by Playwright, so that Playwright need not download a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
# Root has no sandbox. Without the other flags Chromium contacts Google's hosts at every start.
FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"]
FLAGS += ["disable-background-networking", "disable-component-update"]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a page, with an empty profile."""
    arguments = [f"--{flag}" for flag in FLAGS]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield chromium
        finally:
            chromium.close()

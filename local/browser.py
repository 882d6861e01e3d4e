"""Debian's Chromium, headless, by Playwright: Playwright's own download of a browser is not needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
# It has no network here, and as root no sandbox; without the rest it looks for Google's hosts at every start.
FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"]
FLAGS += ["disable-background-networking", "disable-component-update"]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that has nothing open, with an empty profile."""
    arguments = [f"--{flag}" for flag in FLAGS]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield chromium
        finally:
            chromium.close()

"""A cold start imports only the modules that the handler uses; expensive ones only at their first use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack import ENVIRONMENT

ROOT = Path(__file__).parents[2]
HANDLERS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/app.py"))
# Expensive to import, and used by some events only.
LATER = {
    *("aiohttp", "boto3", "jinja2", "phonenumbers", "requests", "sqlparse", "twilio", "urllib3"),
    *("authlib", "joserfc", "cryptography"),
}
ONLY_FOR = {"migrate": {"sqlparse"}, "console": {"jinja2", "joserfc", "cryptography"}}

SIGNED = """
from sms_retry import callback
assert not callback.is_signed(["https://sms.example.com"], "/twilio/status", [], "wrong", ("token",))
"""
SENDING = """
from sms_retry import runtime
runtime.sender().__enter__()
"""


def loaded(handler: str, then: str = "") -> set[str]:
    """The modules that a new Python has imported after a handler and the statements in `then`."""
    source = f"import app, sys, json\n{then}\nprint(json.dumps(sorted(sys.modules)))"
    path = os.pathsep.join((str(ROOT / "functions" / handler), str(ROOT / "layers/sms_retry/python")))
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", source], env=environment, check=True, capture_output=True, text=True, cwd=ROOT
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_imports_few_modules_and_no_expensive_one(handler: str) -> None:
    modules = loaded(handler)
    assert {module.split(".")[0] for module in modules} & (LATER - ONLY_FOR.get(handler, set())) == set()
    # About 220 are Python's, 110 are psycopg's and Powertools', and for the console Jinja brings 110 and joserfc 90.
    assert len(modules) < (610 if handler == "console" else 420)


def test_the_signature_of_a_callback_is_checked_without_twilios_sdk() -> None:
    modules = loaded("twilio_webhook", SIGNED)
    assert "sms_retry.callback" in modules
    assert not modules & {"twilio", "requests", "boto3", "phonenumbers"}


def test_a_send_imports_twilios_client_without_its_resources() -> None:
    modules = loaded("process_retries", SENDING)
    assert "twilio.rest" in modules
    assert not [module for module in modules if module.startswith("twilio.rest.api.v2010")]
    assert not modules & {"boto3", "phonenumbers", "aiohttp"}

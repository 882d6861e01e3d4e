"""Random requests to the console: every answer is a page, and a forged form changes nothing."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.aws.container import ROOT
from local.aws.triggers import API_HOST
from local.stack import FUNCTIONS, OPERATOR, Stack, session_of
from sms_retry.console import actions, csrf
from tests.e2e.messages import queue

NONCE = "n" * 32
ANSWERS = {200, 303, 400, 401, 403, 404, 405}

anything = st.text(max_size=40)
ids = st.one_of(st.integers(-1, 3).map(str), st.integers().map(str), anything)
paths = st.one_of(
    st.sampled_from(
        [
            "/",
            "/waiting",
            "/stuck",
            "/ended",
            "/holds",
            "/senders",
            "/usage",
            "/budgets",
            "/people",
            "/actions",
            "/style.css",
            "/do/search",
        ]
    ),
    st.builds("/messages/{}{}".format, ids, st.sampled_from(["", "/person", "/x"])),
    st.sampled_from([*actions.FORMS, "show"]).map("/do/{}".format),
    anything.map("/{}".format),
)
queries = st.dictionaries(st.sampled_from(["how", "code", "since", "after", "before", "done", "n"]), anything)
names = ["word", "message_id", "code", "since", "scope", "key", "minutes", "reason", "hold", "number", "business_id"]
fields = st.dictionaries(
    st.sampled_from([*names, "consent", "force", "sure"]), st.one_of(ids, st.just("yes"), anything)
)


def event(method: str, path: str, query: dict[str, str], body: str, **headers: str) -> dict[str, Any]:
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": urlencode(query, errors="replace"),
        "queryStringParameters": query,
        "headers": headers,
        "cookies": [f"__Host-console={NONCE}", f"__Host-session={session_of(OPERATOR)}"],
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default", "domainName": API_HOST},
        "body": base64.b64encode(body.encode(errors="replace")).decode(),
        "isBase64Encoded": True,
    }


def answered(stack: Stack, sent: dict[str, Any]) -> int:
    answer = stack.handlers["console"](sent)
    assert answer["statusCode"] == 303 or answer["headers"]["Content-Type"].startswith("text/")
    return int(answer["statusCode"])


@settings(max_examples=300)
@given(st.sampled_from(["GET", "POST", "PUT", "HEAD"]), paths, queries, fields)
def test_every_valid_request_is_answered_with_a_page(
    stack: Stack, method: str, path: str, query: dict[str, str], fields: dict[str, str]
) -> None:
    token = csrf.token(NONCE, OPERATOR.actor, datetime.now(UTC))
    body = urlencode({**fields, "token": token}, errors="replace")
    sent = event(method, path, query, body, **{"sec-fetch-site": "same-origin"})
    assert answered(stack, sent) in ANSWERS - {401, 403}


@settings(max_examples=200)
@given(
    path=paths,
    token=anything,
    body=st.one_of(st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")), anything),
    headers=st.dictionaries(st.sampled_from(["sec-fetch-site", "origin", "host", "cookie"]), anything),
)
def test_a_forged_request_is_refused_and_changes_nothing(
    stack: Stack, path: str, token: str, body: str, headers: dict[str, str]
) -> None:
    before = stack.db.execute("select count(*) from sms_retry.sms_actions").fetchone()
    sent = event(
        "POST", path, {}, f"{body}&message_id=1&sure=yes&{urlencode({'token': token}, errors='replace')}", **headers
    )
    assert answered(stack, sent) in {400, 403}
    assert stack.db.execute("select count(*) from sms_retry.sms_actions").fetchone() == before


@pytest.mark.parametrize("body", ["%ff", "a=%00", "x" * 20_000, "&".join(["a=b"] * 60), "", "=", "&&&"])
def test_a_malformed_form_is_refused(stack: Stack, body: str) -> None:
    queue(stack, 1)
    assert answered(stack, event("POST", "/do/cancel", {}, body)) in {400, 403}


def test_no_other_function_imports_the_console() -> None:
    apps = [str(ROOT / "functions" / function / "app.py") for function in FUNCTIONS if function != "console"]
    program = f"import runpy, sys; [runpy.run_path(app) for app in {apps}]; print(*sys.modules)"
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "layers" / "sms_retry" / "python")}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "sms_retry.runtime" in loaded
    assert not {"jinja2", "sms_retry.console", "aws_lambda_powertools.event_handler"} & loaded

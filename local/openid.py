"""An OpenID provider on this machine, for the console: `oidc-provider-mock` of PyPI. It asks for no password."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from werkzeug.serving import make_server

# Anna is an operator by her group. Vera's address is not verified.
PEOPLE: dict[str, dict[str, Any]] = {
    "anna": {"email": "anna@example.com", "email_verified": True, "groups": ["staff", "sms-operators"]},
    "vera": {"email": "vera@example.com", "email_verified": False, "groups": ["staff"]},
}


@dataclass(frozen=True)
class Provider:
    """`posted` are the forms that the token endpoint got."""

    issuer: str
    posted: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def openid_provider() -> Iterator[Provider]:
    with warnings.catch_warnings():
        # Authlib warns of its own old modules, which the provider uses.
        warnings.simplefilter("ignore")
        import oidc_provider_mock
        from flask import request

    app = oidc_provider_mock.app(user_claims=[oidc_provider_mock.User(sub=sub, claims=PEOPLE[sub]) for sub in PEOPLE])
    server = make_server("localhost", 0, app, threaded=True)
    found = Provider(f"http://localhost:{server.server_port}")

    @app.before_request
    def note() -> None:
        if request.path == "/oauth2/token":
            found.posted.append(request.form.to_dict())

    thread = threading.Thread(target=server.serve_forever, name="openid")
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

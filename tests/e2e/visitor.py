"""A person at the console without a browser: requests as a browser sends them, and the answers."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlencode, urlsplit

FROM_HERE = {"sec-fetch-site": "same-origin"}
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Seen:
    """An answer; `text` is its HTML, and `words` the text without tags."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def words(self) -> str:
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.text)).split())

    @property
    def location(self) -> str:
        return self.headers["location"]

    @property
    def token(self) -> str:
        """The token in the page's forms."""
        found = re.search(r'name="token" value="([^"]+)"', self.text)
        assert found, self.text
        return found[1]


@dataclass
class Visitor:
    """The cookies of one browser. A form carries the token of the page at `page`, unless a token is given."""

    url: str
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, method: str = "GET") -> Seen:
        return self._ask(method, path)

    def post(self, path: str, headers: Mapping[str, str] = FROM_HERE, page: str = "/people", **fields: object) -> Seen:
        fields.setdefault("token", self.get(page).token)
        return self._ask("POST", path, urlencode(fields), {"content-type": FORM, **headers})

    def _ask(self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None) -> Seen:
        sent = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)) as connection:
            connection.request(method, path, body, {**sent, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode()
        for cookie in answer.headers.get_all("set-cookie") or []:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return Seen(answer.status, {name.lower(): value for name, value in answer.headers.items()}, text)

"""A TCP proxy in front of Postgres that can be cut, become silent, or lose an answer; with TLS if asked for."""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from select import select
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Postgres's ReadyForQuery message, after a statement outside a transaction.
READY = b"Z\0\0\0\5I"


class Cable:
    """Forwards `url` to the database of `database_url`. `answers` counts the statements that were answered.

    With `tls` a connection without TLS fails; the certificate is self-signed.
    """

    def __init__(self, database_url: str, *, tls: bool = False) -> None:
        self._target, self._port = urlsplit(database_url), 0
        self._tls = _tls() if tls else None
        self._ends: list[socket.socket] = []
        self._silent: list[socket.socket] = []
        self.answers = 0
        self.loses_the_next_answer = False
        self.plug_in()

    @property
    def url(self) -> str:
        return self._target._replace(netloc=f"{self._target.username}@127.0.0.1:{self._port}").geturl()

    def plug_in(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def pull_out(self) -> None:
        for end in (self._listening, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def go_silent(self) -> None:
        """Drop all data on the open connections without closing them, as a router does that has lost their state."""
        self._silent += self._ends

    def close(self) -> None:
        self.pull_out()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with self._listening as listening, suppress(OSError):
            while True:
                self._threads.append(threading.Thread(target=self._carry, args=(listening.accept()[0],)))
                self._threads[-1].start()

    def _carry(self, caller: socket.socket) -> None:
        target = (self._target.hostname or "", self._target.port or 5432)
        with suppress(OSError), self._secured(caller) as here, socket.create_connection(target) as there:
            self._ends.append(here)
            while True:
                for end in [here] if _has_more(here) else select([here, there], [], [])[0]:
                    data = end.recv(65536)
                    if not data or (end is there and self.loses_the_next_answer):
                        self.loses_the_next_answer = False
                        return
                    if here in self._silent:
                        select([here], [], [], 10)  # then close, so that a client without a timeout fails too
                        return
                    self.answers += data.count(READY) if end is there else 0
                    (there if end is here else here).sendall(data)

    def _secured(self, caller: socket.socket) -> socket.socket:
        if self._tls is None:
            return caller
        caller.recv(8)  # Postgres's SSLRequest
        caller.sendall(b"S")
        return self._tls.wrap_socket(caller, server_side=True)


def _has_more(end: socket.socket) -> bool:
    return isinstance(end, ssl.SSLSocket) and end.pending() > 0


def _tls() -> ssl.SSLContext:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder, "both.pem")
        both.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, *plain))
        context.load_cert_chain(both)
    return context

"""`make dev`: the stack at real speed until Ctrl-C, on fixed ports, for a shell, an application and `sam local`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from local.aws.triggers import load
from local.openid import openid_provider
from local.postgres.server import postgres
from local.stack import ENVIRONMENT, POSTGRES_PORT, TWILIO_PORT, Stack, environment, stack
from local.twilio.stand_in import Behaviour, Callbacks

BEHAVIOUR = Behaviour(callbacks=Callbacks(delay=2.0), latency=0.1)
# Linux's request for an interface's IPv4 address.
SIOCGIFADDR = 0x8915

HELP = """
The stack is running until Ctrl-C. Its schedules run at real speed: process_retries every minute.

  Postgres   {database}
  Twilio     {twilio}
  callbacks  {front}
  console    {console}

Send a message:
  .venv/bin/python -m local send +4917612345678 "Your table is ready."
  psql {database} -c "select sms_retry.queue_sms_retry('+4917612345678', 'Your table is ready.', kind => 'otp')"

Let Twilio fail, and see which messages it accepted:
  curl {twilio}/stand-in/plan -d '{{"to": "+4917612345678", "steps": [{{"step": "refuse", "http_status": 429, "code": 20429}}]}}'
  curl {twilio}/stand-in/plan -d '{{"down": true}}'
  curl {twilio}/stand-in/accepted

See its status, retry or cancel it: {console}

In Lambda's own container, after `make build ARCHITECTURE={architecture}`:
  .venv/bin/sam local invoke ProcessRetriesFunction -e tests/events/process_retries.json -n tests/env.json \\
      --parameter-overrides Architecture={architecture} --add-host host.docker.internal:host-gateway
"""  # noqa: E501


def dev(*, signs_in: bool = False) -> int:
    """Run until SIGINT or SIGTERM. Returns the exit code: 0, or 1 if a port is taken.

    With `signs_in` people sign in to the console at a provider on this machine.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # Write each line of the log at once, also into a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        with (
            contextlib.suppress(KeyboardInterrupt),
            postgres(port=POSTGRES_PORT) as server,
            openid_provider() if signs_in else contextlib.nullcontext() as provider,
            stack(server.url, BEHAVIOUR, real_time=True, issuer=provider and provider.issuer) as parts,
            _reachable_from_containers(),
            parts.clock.running(),
        ):
            print(_help(parts))
            if provider:
                print(f"Sign in to the console as anna, an operator, or as vera, a viewer: {parts.console.url}")
            while True:
                signal.pause()
    except (OSError, RuntimeError) as error:
        print(f"{error}\nIs another `make dev` running?", file=sys.stderr)
        return 1
    return 0


def send_one(to: str, body: str) -> int:
    """Send a message at any hour through the stack of `dev`, and print the handler's answer."""
    with environment(DATABASE_URL=os.environ.get("LOCAL_DATABASE_URL") or ENVIRONMENT["DATABASE_URL"]):
        send_sms = load("send_sms")
        try:
            print(json.dumps(send_sms({"to": to, "body": body, "kind": "otp"}), indent=2))
        except ValueError as fault:
            # The handler has its own copy of the class InvalidEvent.
            print(fault, file=sys.stderr)
            return 1
        except psycopg.OperationalError as away:
            print(f"{away}\nIs `make dev` running?", file=sys.stderr)
            return 1
        finally:
            send_sms.close()
    return 0


def examine() -> int:
    """Run the doctor against the stack of `dev`; returns its exit code."""
    from sms_retry.__main__ import main

    with environment(DATABASE_URL=os.environ.get("LOCAL_DATABASE_URL") or ENVIRONMENT["DATABASE_URL"]):
        return main(["doctor"])


def _help(parts: Stack) -> str:
    architecture = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "arm64"
    front = f"{parts.front.url}/twilio/status"
    return HELP.format(
        database=parts.database_url,
        twilio=parts.twilio.url,
        front=front,
        console=parts.console.url,
        architecture=architecture,
    )


@contextmanager
def _reachable_from_containers() -> Iterator[None]:
    """Forwards the address of Docker's bridge, if it exists, to loopback: a Linux container reaches only the bridge."""
    address = _address("docker0")
    if address is None:
        yield
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="forwarder")
    thread.start()
    try:
        ports = (POSTGRES_PORT, TWILIO_PORT)
        servers = [asyncio.run_coroutine_threadsafe(_listen(address, port), loop).result() for port in ports]
        yield
        for server in servers:
            loop.call_soon_threadsafe(server.close)
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _address(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()))
        return socket.inet_ntoa(answer[20:24])
    return None


async def _listen(address: str, port: int) -> asyncio.Server:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, target_writer), _copy(target_reader, writer), return_exceptions=True)

    return await asyncio.start_server(forward, address, port)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def _cancel_all() -> None:
    current = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not current]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

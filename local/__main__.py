"""`python -m local COMMAND`: demo, dev (the default), doctor, deploy, send or screenshots."""

from __future__ import annotations

import argparse
import os
import sys

# They name the database of the service, which may be the one in production.
OF_THE_SERVICE = ("DATABASE_URL", "DATABASE_SECRET_ARN")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("demo", help="send 200 messages through a failing Twilio stand-in, in under a minute")
    running = commands.add_parser("dev", help="run the stack at real speed until Ctrl-C (the default)")
    running.add_argument("--sign-in", action="store_true", help="let people sign in to the console at a local provider")
    commands.add_parser("doctor", help="check the settings of the stack that dev runs")
    commands.add_parser("deploy", help="run sam deploy to an AWS account on this machine, until Ctrl-C")
    send = commands.add_parser("send", help="send a message through the stack that dev runs")
    send.add_argument("to", help="a phone number, such as +4917612345678")
    send.add_argument("body")
    commands.add_parser("screenshots", help="write new pictures of the console into docs/images")
    arguments = parser.parse_args()
    _ignore_the_database_of_the_service()
    if fault := _fault_of_the_local_database():
        print(f"LOCAL_DATABASE_URL cannot be used: {fault}\nCorrect it, or unset it.", file=sys.stderr)
        return 1
    match arguments.command:
        case "demo":
            from local.commands.demo import demo

            return demo()
        case "doctor":
            from local.commands.dev import examine

            return examine()
        case "deploy":
            from local.commands.deploy import deploy

            return deploy()
        case "send":
            from local.commands.dev import send_one

            return send_one(arguments.to, arguments.body)
        case "screenshots":
            from local.commands.screenshots import screenshots

            return screenshots()
        case _:
            from local.commands.dev import dev

            return dev(signs_in=getattr(arguments, "sign_in", False))


def _ignore_the_database_of_the_service() -> None:
    for name in OF_THE_SERVICE:
        if os.environ.pop(name, None):
            print(
                f"{name} is ignored: the local stack brings a database, or uses that of LOCAL_DATABASE_URL.",
                file=sys.stderr,
            )


def _fault_of_the_local_database() -> str | None:
    import psycopg

    try:
        if url := os.environ.get("LOCAL_DATABASE_URL"):
            psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as away:
        return str(away).strip()
    except psycopg.ProgrammingError:
        # The error quotes the URL, and with it the password.
        return "it must be a URL such as postgresql://user:password@localhost:5432/name."
    return None


if __name__ == "__main__":
    sys.exit(main())

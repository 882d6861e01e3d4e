"""`python -m local`: the whole stack on this machine, at real speed; or `demo`, or `deploy`, or `send`."""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("demo", help="200 messages through a Twilio that fails, in under a minute")
    commands.add_parser("dev", help="the stack at real speed, until Ctrl-C; what runs where nothing is said")
    commands.add_parser("deploy", help="sam deploy to an AWS account on this machine, until Ctrl-C")
    send = commands.add_parser("send", help="send a message through the stack that dev runs")
    send.add_argument("to", help="a number, such as +4917612345678")
    send.add_argument("body")
    commands.add_parser("screenshots", help="take the pictures of the console in docs/images anew")
    given = parser.parse_args()
    match given.command:
        case "demo":
            from local.commands.demo import demo

            return demo()
        case "deploy":
            from local.commands.deploy import deploy

            return deploy()
        case "send":
            from local.commands.dev import send_one

            return send_one(given.to, given.body)
        case "screenshots":
            from local.commands.screenshots import screenshots

            return screenshots()
        case _:
            from local.commands.dev import dev

            return dev()


if __name__ == "__main__":
    sys.exit(main())

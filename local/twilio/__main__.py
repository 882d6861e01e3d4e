"""`python -m local.twilio`: the Twilio stand-in alone, until SIGINT or SIGTERM. Prints its URL."""

from __future__ import annotations

import argparse
import contextlib
import signal

from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Behaviour, TwilioStandIn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.twilio", description=__doc__)
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--account-sid", default=ACCOUNT_SID)
    parser.add_argument("--auth-token", default=AUTH_TOKEN)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument(
        "--route",
        action="append",
        default=[],
        metavar="PUBLIC=LOCAL",
        help="the local origin of a public one: https://sms.example.com=http://127.0.0.1:8080",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    route = dict(pair.split("=", 1) for pair in options.route)
    login = {"account_sid": options.account_sid, "auth_token": options.auth_token}
    behaviour = Behaviour(latency=options.latency)
    # The reader of the URL may send SIGTERM at once, before `pause`.
    with (
        contextlib.suppress(KeyboardInterrupt),
        TwilioStandIn(behaviour, route=route, port=options.port, **login) as twilio,
    ):
        print(twilio.url, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()

"""A reply's words: an opt-out, a word that takes an opt-out back, or neither."""

from __future__ import annotations

import csv
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Literal

Wish = Literal["stop", "start"]

# https://help.twilio.com/articles/223134027
START_WORDS = frozenset(("start", "unstop", "yes"))
# Twilio's own reading of a reply, where Advanced Opt-Out made one: https://www.twilio.com/docs/messaging/tutorials/advanced-opt-out
OPT_OUT_TYPES: dict[str, Wish | None] = {"stop": "stop", "start": "start", "help": None}


def wish(body: str, opt_out_type: str = "") -> Wish | None:
    """The wish in a reply, or None; Twilio's OptOutType outweighs the words."""
    if opt_out_type.lower() in OPT_OUT_TYPES:
        return OPT_OUT_TYPES[opt_out_type.lower()]
    words = folded(body)
    if words in stop_words():
        return "stop"
    return "start" if words in START_WORDS else None


@cache
def stop_words() -> frozenset[str]:
    """The words and phrases of stop_words.csv, folded."""
    rows = csv.DictReader((files("sms_retry") / "stop_words.csv").read_text().splitlines())
    return frozenset(folded(row["words"]) for row in rows)


def folded(text: str) -> str:
    """Letters and digits alone, without case, width or accents: `“Opt-Out!”` and `ｏｐｔ ｏｕｔ` become `optout`."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in decomposed if character.isalnum())

"""The differences between a POST and Twilio's record of it: its texts, its numbers, and the addresses in callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import phonenumbers

TRIAL = "Sent from your Twilio trial account - "

# The characters of https://www.twilio.com/docs/messaging/services/smart-encoding-char-list that texts have most often,
# and one of each kind that a comparison of texts may miss: modifier letters, combining marks, fractions, full width.
_REPLACED = {
    '"': "«»“”„‟❝❞〝〞＂\N{MODIFIER LETTER DOUBLE PRIME}\N{MODIFIER LETTER DOUBLE APOSTROPHE}",
    "'": "‘’‛❛❜＇´`\N{MODIFIER LETTER TURNED COMMA}\N{MODIFIER LETTER APOSTROPHE}\N{MODIFIER LETTER PRIME}"
    "\N{MODIFIER LETTER REVERSED COMMA}\N{MODIFIER LETTER VERTICAL LINE}\N{MODIFIER LETTER ACUTE ACCENT}"
    "\N{MODIFIER LETTER GRAVE ACCENT}\N{COMBINING COMMA ABOVE}",
    "-": "‐–—―﹣－•⁃",
    "/": "÷⁄∕／",
    "...": "…",
    "!!": "‼",
    ",": "‚，、",
    ".": "。．",
    "!": "！",
    "?": "？",
    ":": "：\N{MODIFIER LETTER TRIANGULAR COLON}",
    ";": "；",
    "*": "∗✱＊",
    "+": "＋",
    "=": "＝",
    "^": "\N{COMBINING CIRCUMFLEX ACCENT}\N{MODIFIER LETTER CIRCUMFLEX ACCENT}",
    "~": "\N{COMBINING TILDE}\N{SMALL TILDE}～",
    "1/4": "¼",
    "1/2": "½",
    "3/4": "¾",
    " ": "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{EN SPACE}\N{EM SPACE}\N{THIN SPACE}\N{HAIR SPACE}"
    "\N{FIGURE SPACE}\N{IDEOGRAPHIC SPACE}\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}",
    "": "\N{ZERO WIDTH SPACE}\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}",
}
SMART_ENCODING = str.maketrans(
    {character: plain for plain, characters in _REPLACED.items() for character in characters}
    | {chr(0xFF10 + n): str(n) for n in range(10)}
    | {chr(0xFF21 + n): chr(0x41 + n) for n in range(26)}
)


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The settings of an account and of its Messaging Service that change a record. The answer to the POST echoes the
    text as it was sent. By default only white space at the ends is trimmed, as for every account.

    - `trimmed`: seen on live accounts: "Twilio trims trailing line breaks" (TwilioDevEd/message-segment-calculator).
    - `smart_encoding`: on in every new Messaging Service. Seen on a live account: the answer to the POST is equal to
      the text, and the list is not. https://www.twilio.com/docs/messaging/services#smart-encoding
    - `redacted` and `masked`: the text is empty; the last four digits of the recipient are XXXX, also in receipts, so
      that no list by number has the message. https://www.twilio.com/docs/messaging/guides/privacy-message-redaction
    - `trial`: https://help.twilio.com/articles/223136107
    - `rcs`: the addresses in receipts and replies have a channel, and so has the sender in the list.
      https://www.twilio.com/docs/rcs
    """

    trimmed: bool = True
    smart_encoding: bool = False
    redacted: bool = False
    masked: bool = False
    trial: bool = False
    rcs: bool = False

    def encoded(self, body: str) -> str:
        """The text that goes to the phone."""
        body = body.strip() if self.trimmed else body
        body = body.translate(SMART_ENCODING) if self.smart_encoding else body
        return TRIAL + body if self.trial else body

    def body(self, body: str) -> str:
        return "" if self.redacted else self.encoded(body)

    def to(self, number: str) -> str:
        """The recipient in the one spelling that Twilio keeps, whatever spelling was posted."""
        number = canonical(number)
        return number[:-4] + "XXXX" if self.masked else number

    def address(self, number: str) -> str:
        """An address in a callback."""
        return f"rcs:{number}" if self.rcs else number


@lru_cache(maxsize=4096)
def canonical(number: str) -> str:
    """E.164 as libphonenumber writes it (`+44 (0)7700 900123` becomes `+447700900123`); any other text unchanged."""
    if not number.startswith("+"):
        return number
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)

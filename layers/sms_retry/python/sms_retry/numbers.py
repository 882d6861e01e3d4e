"""Phone numbers: one person has one spelling, E.164 as libphonenumber formats it. SQL's sms_number gives the same."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

# A trunk prefix and an area code that is written twice make an input longer than the 15 digits of E.164.
INTERNATIONAL = re.compile(r"\+[1-9][0-9]{2,24}")
# The shape of E.164, which a number that is impossible may have too.
E164 = re.compile(r"\+[1-9][0-9]{1,14}")
LONGEST_E164 = len("+") + 15


def e164(given: str) -> str | None:
    """The one spelling of `given`, a `+` and digits such as `+4407700900123`; None where the number is impossible."""
    if not INTERNATIONAL.fullmatch(given):
        return None
    # Nearly every number is complete as it is: one look is many times faster than libphonenumber's.
    if _complete(given[:4]).fullmatch(given):
        return given
    import phonenumbers

    try:
        number = phonenumbers.parse(given)
    except phonenumbers.NumberParseException:
        return None
    spelled = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return spelled if phonenumbers.is_possible_number(number) and len(spelled) <= LONGEST_E164 else None


def from_text(text: str) -> str | None:
    """The one spelling of a number as people write it, such as `+44 (0)7700 900123` or `0044 7700 900123`."""
    bare = re.sub(r"[\s().\-/\u2010-\u2015]", "", text)
    return e164(f"+{bare[2:]}" if bare.startswith("00") else bare)


@cache
def _complete(start: str) -> re.Pattern[str]:
    """The numbers that begin with `start` and are E.164 as they are: of a possible length, without a trunk prefix."""
    import phonenumbers

    try:
        code: Any = phonenumbers.parse(f"{start}0000000").country_code
    except phonenumbers.NumberParseException:
        return re.compile("(?!)")
    region = phonenumbers.region_code_for_country_code(code)
    metadata: Any = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    trunk = f"(?!{metadata.national_prefix_for_parsing})" if metadata.national_prefix_for_parsing else ""
    lengths = [n for n in metadata.general_desc.possible_length if len(f"+{code}") + n <= LONGEST_E164]
    return re.compile(rf"\+{code}{trunk}(?:{'|'.join(f'[0-9]{{{n}}}' for n in lengths)})")

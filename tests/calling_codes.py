"""`make data`: writes sql/data/sms_calling_codes.sql from libphonenumber's metadata. A test holds the file to it."""

from __future__ import annotations

from pathlib import Path

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

FILE = Path(__file__).parents[1] / "sql" / "data" / "sms_calling_codes.sql"

HEAD = """\
-- How each calling code spells its numbers, as libphonenumber knows it. `make data` writes this file; `migrate` runs it
-- at each deploy.
insert into sms_retry.sms_calling_codes
    (calling_code, trunk_prefix, trunk_rule, national_pattern, lengths, local_lengths)
values
"""

TAIL = """
on conflict (calling_code) do update set
    trunk_prefix = excluded.trunk_prefix, trunk_rule = excluded.trunk_rule,
    national_pattern = excluded.national_pattern, lengths = excluded.lengths, local_lengths = excluded.local_lengths;
"""


def calling_codes() -> str:
    """The text of the file."""
    return HEAD + ",\n".join(_row(code) for code in sorted(COUNTRY_CODE_TO_REGION_CODE, key=str)) + TAIL


def _row(code: int) -> str:
    main_region = COUNTRY_CODE_TO_REGION_CODE[code][0]
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, main_region)
    general = metadata.general_desc
    values = (
        f"'{code}'",
        _pattern(metadata.national_prefix_for_parsing),
        _pattern(metadata.national_prefix_transform_rule),
        _pattern(general.national_number_pattern),
        f"'{{{','.join(map(str, general.possible_length))}}}'",
        f"'{{{','.join(map(str, general.possible_length_local_only))}}}'",
    )
    return f"    ({', '.join(values)})"


def _pattern(text: str | None) -> str:
    """A regular expression as a literal that reads the same whatever `standard_conforming_strings` is."""
    if not text:
        return "null"
    text = text.replace(r"\d", "[0-9]")
    return "e'" + text.replace("\\", "\\\\") + "'" if "\\" in text else f"'{text}'"


if __name__ == "__main__":
    FILE.write_text(calling_codes())

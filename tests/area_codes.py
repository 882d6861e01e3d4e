"""`make data`: writes sql/data/sms_area_codes.sql from area_codes.csv. A test holds the file to it."""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path

FILE = Path(__file__).parents[1] / "sql" / "data" / "sms_area_codes.sql"

HEAD = """\
-- The region of each area code after +1, as area_codes.csv has it. `make data` writes this file; `migrate` runs it at
-- each deploy.
insert into sms_retry.sms_area_codes (area_code, region)
select area_code, region
from (values
"""

TAIL = """
) regions (region, area_codes)
cross join lateral string_to_table(area_codes, ' ') area_code
on conflict (area_code) do update set region = excluded.region;
"""


def area_codes() -> str:
    """The text of the file."""
    rows = csv.DictReader((files("sms_retry") / "area_codes.csv").read_text().splitlines())
    return HEAD + ",\n".join(f"    ('{row['region']}', '{row['area_codes']}')" for row in rows) + TAIL


if __name__ == "__main__":
    FILE.write_text(area_codes())

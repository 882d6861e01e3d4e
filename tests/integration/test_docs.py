"""The SQL and the commands of the documentation run; its files, links, alarms, metrics and SQL names exist."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import psycopg
import pytest

from deploy.section import read_template
from sms_retry import health, metrics
from sms_retry.__main__ import command_line
from sms_retry.store import Store
from sms_retry.values import Message
from tests.integration.examples import state_of, take_in

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("sql/*.md")]
HOW_IT_WORKS = (ROOT / "docs" / "how-it-works.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()
SQL = [
    (page, block)
    for page in ("README.md", "docs/operating.md")
    for block in re.findall(r"```sql\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
]


# The folders that a path in the documentation may start with, and the endings of the files that it may name.
FOLDERS = ("clients/", "functions/", "layers/", "sql/", "local/", "tests/", "docs/", "deploy/", ".ci/", ".github/")
ENDINGS = (".py", ".sql", ".csv", ".yaml", ".toml", ".md", ".html")
FILES = [
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*"), *(found for folder in FOLDERS for found in (ROOT / folder).rglob("*")))
]


@pytest.mark.parametrize(("page", "block"), SQL, ids=[page for page, _ in SQL])
def test_the_sql_in_the_documentation_runs(db: psycopg.Connection, page: str, block: str) -> None:
    db.execute(block)


def test_each_alarm_has_a_runbook_line_and_each_line_an_alarm() -> None:
    resources = read_template(ROOT / "template.yaml")["Resources"]
    alarms = {name for name, resource in resources.items() if resource["Type"] == "AWS::CloudWatch::Alarm"}
    assert alarms
    lines = re.findall(r"^\| ([\w, ]+) \|.*\|.*\|.*\|$", OPERATING.split("## Alarms")[1], re.MULTILINE)
    assert sorted(name for line in lines[1:] for name in line.split(", ")) == sorted(alarms)


def test_each_metric_is_documented_and_each_documented_metric_exists() -> None:
    package = ROOT / "layers/sms_retry/python/sms_retry"
    sources = [*(ROOT / "functions").glob("*/app.py"), package / "scale_out.py", package / "metrics.py"]
    counted = {
        name
        for source in sources
        for name in re.findall(
            r'"([A-Z]\w+(?:Callbacks|Workers|Messages|Deferrals|Holds|Lists|Replies|Events|Seconds))"',
            source.read_text(),
        )
    }
    of_a_tally = {
        f"{word.title().replace('_', '')}Messages"
        for word in (*metrics.RETURNED, "stale", "unlisted", "broken", "invalid", "not_allowed", "sent")
    }
    of_a_receipt = {f"{word}Callbacks" for word in ("Settled", "Noted", "Repeated", "UnheardOf")}
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", OPERATING.split("## Metrics")[1].split("Beyond")[0])) - {"SmsRetry"}
    assert named == counted | of_a_tally | of_a_receipt | health.GAUGES.keys() | health.PERCENTAGES.keys()


def test_each_field_of_send_sms_is_documented() -> None:
    table = (ROOT / "docs" / "events.md").read_text().partition("## `send_sms`")[2].partition("\nIt returns")[0]
    documented = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    fields = {field.name for field in dataclasses.fields(Message)} - {"to_number"} | {"to", "failed", "sent"}
    assert documented == fields


def test_the_commands_in_the_documentation_are_understood() -> None:
    commands = re.findall(r"`((?:retry|cancel|requeue|hold|release|opt-out|opt-in|erase|show) [^`]*)`", OPERATING)
    filled_in = {"ID": "17", "CODE": "30003", "NUMBER": "+14155550123", "SCOPE": "country", "KEY": "+44"}
    for command in commands:
        words = [filled_in.get(word, word) for word in command.replace("[", "").replace("]", "").split()]
        assert command_line().parse_args(words).act
    assert len(commands) > 10


def test_the_kill_switch_stops_every_claim_until_it_is_cleared(db: psycopg.Connection, store: Store) -> None:
    message_id = take_in(store)
    db.execute("select sms_retry.open_sms_hold('account', '*', interval '100 years', 'by hand')")
    assert store.claim_due(10) == []
    assert store.claim_now(message_id) is None

    db.execute("select sms_retry.close_sms_hold('account', '*')")
    assert len(store.claim_due(10)) == 1
    assert state_of(db, message_id).queue == "processing"


# The changes name files of earlier releases too.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_each_file_that_a_page_names_exists(page: Path) -> None:
    assert {name for name in files_named_in(page.read_text()) if not exists(name)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_of_a_page_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_each_sql_name_in_how_it_works_exists() -> None:
    functions = {path.stem for path in (ROOT / "sql" / "functions").rglob("*.sql")}
    tables = " ".join(path.read_text() for path in (ROOT / "sql" / "migrations").glob("*.sql"))
    known = functions | set(re.findall(r"sms_retry\.(\w+)", tables))
    named = set(re.findall(r"`(\w*sms_\w+)`", HOW_IT_WORKS)) - {"sms_retry"}
    assert len(named) > 15
    assert named <= known


def test_how_it_works_names_each_function_that_decides_when_the_retries_are_spent() -> None:
    [line] = re.findall(r"^\| \*\*When the retries are spent\*\* \| (.*) \|$", HOW_IT_WORKS, re.MULTILINE)
    sources = {path.stem: path.read_text() for path in (ROOT / "sql" / "functions").rglob("*.sql")}
    decide = {name for name, text in sources.items() if re.search(r"retry_count < (\w\.)?max_retries", text)}
    assert set(re.findall(r"`(\w+)`", line)) == decide


def files_named_in(text: str) -> set[str]:
    """The paths and file names in backticks and in the map of the README; each alternative in braces is one."""
    in_the_map = re.search(r"## The map\n\n```\n(.*?)```", text, re.DOTALL)
    words = re.findall(r"`([^`\s]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    words += [word for line in in_the_map[1].splitlines() for word in line[:31].split()] if in_the_map else []
    named = {word.rstrip("/") for word in words if word.endswith(ENDINGS) or word.startswith(FOLDERS)}
    return {path for word in named for path in alternatives(word)}


def alternatives(path: str) -> list[str]:
    """`tests/{unit,e2e}` is `tests/unit` and `tests/e2e`; a placeholder in capitals is any name."""
    before, brace, rest = path.partition("{")
    inside, _, after = rest.partition("}")
    paths = [before + name + after for name in inside.split(",")] if brace else [path]
    return [re.sub(r"\b(ROOM|NAME|name)\b", "*", path) for path in paths]


def exists(name: str) -> bool:
    """Whether some file has this path, or ends with it."""
    return any(path.match(name) for path in FILES)


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}

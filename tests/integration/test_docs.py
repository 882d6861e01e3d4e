"""What the documentation tells people to type runs as it stands, and it leaves out no alarm and no metric."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from samcli.yamlhelper import yaml_parse

from sms_retry import health, metrics
from sms_retry.__main__ import command_line
from sms_retry.store import Store
from tests.integration.examples import standing, take_in

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text()
SQL = [
    (page, block)
    for page in ("README.md", "docs/operating.md")
    for block in re.findall(r"```sql\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("page", "block"), SQL, ids=[page for page, _ in SQL])
def test_the_sql_in_the_documentation_runs(db: psycopg.Connection, page: str, block: str) -> None:
    db.execute(block)


def test_each_alarm_has_its_line_and_each_line_its_alarm() -> None:
    resources = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]
    alarms = {name for name, resource in resources.items() if resource["Type"] == "AWS::CloudWatch::Alarm"}
    assert alarms
    lines = re.findall(r"^\| ([\w, ]+) \|.*\|.*\|.*\|$", OPERATING.split("## Alarms")[1], re.MULTILINE)
    assert sorted(name for line in lines[1:] for name in line.split(", ")) == sorted(alarms)


def test_each_metric_is_named_and_each_name_is_a_metric() -> None:
    package = ROOT / "layers/sms_retry/python/sms_retry"
    sources = [*(ROOT / "functions").glob("*/app.py"), package / "scale_out.py", package / "metrics.py"]
    counted = {
        name
        for source in sources
        for name in re.findall(
            r'"([A-Z]\w+(?:Callbacks|Workers|Messages|Deferrals|Holds|Seconds))"', source.read_text()
        )
    }
    of_a_tally = {f"{word.capitalize()}Messages" for word in (*metrics.RETURNED, "stale", "unlisted", "sent")}
    of_a_receipt = {f"{word}Callbacks" for word in ("Settled", "Noted", "Repeated", "UnheardOf")}
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", OPERATING.split("## Metrics")[1].split("Beyond")[0])) - {"SmsRetry"}
    assert named == counted | of_a_tally | of_a_receipt | health.GAUGES.keys() | health.PERCENTAGES.keys()


def test_the_commands_in_the_documentation_are_understood() -> None:
    commands = re.findall(r"`((?:retry|cancel|requeue|hold|release|opt-out|opt-in|erase|show) [^`]*)`", OPERATING)
    filled_in = {"ID": "17", "CODE": "30003", "NUMBER": "+14155550123", "SCOPE": "country", "KEY": "+44"}
    for command in commands:
        words = [filled_in.get(word, word) for word in command.replace("[", "").replace("]", "").split()]
        assert command_line().parse_args(words).act
    assert len(commands) > 10


def test_the_kill_switch_stops_everything_until_it_is_released(db: psycopg.Connection, store: Store) -> None:
    message_id = take_in(store)
    db.execute("select sms_retry.open_sms_hold('account', '*', interval '1000 years', 'by hand')")
    assert store.claim_due(10) == []
    assert store.claim_now(message_id) is None

    db.execute("select sms_retry.close_sms_hold('account', '*')")
    assert len(store.claim_due(10)) == 1
    assert standing(db, message_id).queue == "processing"

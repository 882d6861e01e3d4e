"""Each NamedTuple of `readings` has the columns of its SQL function."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import psycopg
import pytest

from sms_retry import readings
from sms_retry.store import Store
from tests.integration.examples import number, one, take_in

FUNCTIONS = {
    readings.ListedMessage: "listed_sms",
    readings.MessageDetails: "sms_message_details",
    readings.StoryStep: "sms_message_story",
    readings.NumberAndText: "show_sms",
    readings.CurrentHold: "sms_open_holds",
    readings.KnownSender: "sms_senders_known",
    readings.Origin: "sms_message_origin",
    readings.Consent: "sms_consents_of",
    readings.RecordedAction: "sms_actions_done",
    readings.FoundMessage: "found_sms",
    readings.EndedInHour: "sms_last_day",
    readings.WaitingFor: "sms_waiting_for",
    readings.FailedSince: "failed_sms_since",
    readings.Budget: "sms_budgets_now",
    readings.Usage: "sms_usage_by",
    readings.CountrySegments: "sms_segments_by",
    readings.Parts: "sms_message_parts",
}
TYPES = {
    "bool": bool,
    "int4": int,
    "int8": int,
    "interval": timedelta,
    "jsonb": dict,
    "numeric": Decimal,
    "text": str,
    "timestamptz": datetime,
}


@pytest.mark.parametrize("shape", FUNCTIONS, ids=lambda shape: shape.__name__)
def test_a_reading_has_the_columns_of_its_function(db: psycopg.Connection, shape: type[Any]) -> None:
    function = FUNCTIONS[shape]
    arguments = one(db, "select pronargs from pg_proc where oid = to_regproc(%s)", [f"sms_retry.{function}"])
    description = db.execute(f"select * from sms_retry.{function}({', '.join(['null'] * arguments)})").description
    assert description
    columns = [(column.name, python_type(column.type_code)) for column in description]
    assert columns == [(name, without_none(hint)) for name, hint in get_type_hints(shape).items()]


def test_every_reading_is_tested() -> None:
    shapes = {each for each in vars(readings).values() if isinstance(each, type) and hasattr(each, "_fields")}
    assert shapes == FUNCTIONS.keys() | {readings.Erased}


def test_erased_has_the_keys_of_its_function(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    erased = one(db, "select sms_retry.erase_sms_recipient(%s)", [number()])
    assert erased.keys() == set(readings.Erased._fields)


def python_type(type_code: int) -> type:
    found = psycopg.adapters.types[type_code]
    return list if type_code == found.array_oid else TYPES[found.name]


def without_none(hint: Any) -> Any:
    [kind] = [each for each in (get_args(hint) if NoneType in get_args(hint) else [hint]) if each is not NoneType]
    return get_origin(kind) or kind

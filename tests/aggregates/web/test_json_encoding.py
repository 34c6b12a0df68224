"""JSON: every number is one that JSON has, and whole numbers are exact."""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import pytest
from bson import Binary, DatetimeMS, Decimal128, Int64

from aggregates.web import mongo
from aggregates.web.json_encoding import to_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "null"),
        (-math.inf, "null"),
        (Decimal128("NaN"), "null"),
        (Decimal128("sNaN"), "null"),
        (Decimal128("Infinity"), "null"),
        (Decimal128("1E+6000"), "null"),
        (Decimal128("1.5"), "1.5"),
        (Decimal128("1.50E+1"), "15"),
        (Decimal128("1E+300"), "1e+300"),
        (Decimal128("1E-6000"), "0.0"),
        (Decimal128("9999999999999999999999999999999999"), "9999999999999999999999999999999999"),
        (Decimal128("-9223372036854775809"), "-9223372036854775809"),
        (Int64(2**63 - 1), "9223372036854775807"),
        (2**53 + 1, "9007199254740993"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"a": [value, math.nan]}])
def test_numbers_are_exact_or_null(value: Any, text: str, wrap: Any) -> None:
    written = to_json(wrap(value)).decode()
    assert written in (text, f'{{"a": [{text}, null]}}')
    json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Binary.from_uuid(uuid.UUID(int=7)), "00000000-0000-0000-0000-000000000007"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Binary(b"abc", 4), "YWJj"),
        (DatetimeMS(253_402_300_800_000), 253_402_300_800_000),
    ],
)
def test_values_that_python_has_no_type_for_are_written_all_the_same(value: Any, text: Any) -> None:
    assert json.loads(to_json({"a": [value]})) == {"a": [text]}


def test_the_client_reads_dates_that_python_cannot_represent(site: Any, database: Any) -> None:
    document = {"_id": 1, "at": DatetimeMS(253_402_300_800_000), "extra": Binary(b"abc", 4)}
    database["odd"].insert_one(document)
    assert mongo.database()["odd"].find_one() == document

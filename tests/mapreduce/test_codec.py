from __future__ import annotations

import datetime

import bson
import pytest
from bson.datetime_ms import DatetimeMS

from mapreduce.codec import decode, encode


def test_dates_are_aware_at_every_depth_and_exact_to_the_millisecond() -> None:
    when = datetime.datetime(2024, 2, 29, 23, 59, 59, 999_000, tzinfo=datetime.UTC)
    found = decode(bson.encode({"a": when, "b": [{"c": when}]}))
    assert found == {"a": when, "b": [{"c": when}]}
    assert found["b"][0]["c"].tzinfo is datetime.UTC


@pytest.mark.parametrize("milliseconds", [-62135596800001, -62135596800000, -1, 0, 253402300799999, 253402300800000])
def test_dates_at_and_beyond_the_limits_of_python_are_the_same_after_a_round_trip(milliseconds: int) -> None:
    raw = bson.encode({"d": DatetimeMS(milliseconds)})
    assert encode(decode(raw)) == raw


def test_documents_with_the_fields_of_a_reference_stay_documents() -> None:
    reference = {"$ref": "users", "$id": {"$ref": "deeper", "$id": 1}, "more": 2}
    found = decode(bson.encode({"a": reference, "b": [reference]}))
    assert found == {"a": reference, "b": [reference]}
    assert type(found["a"]) is type(found["a"]["$id"]) is dict

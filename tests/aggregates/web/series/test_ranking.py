"""Ranked documents: numbers in order, and what is no number never before them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, Int64
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from aggregates.web.series.ranking import read_ranked

Aggregate = Callable[..., None]
ODD = {
    "nan": math.nan, "inf": math.inf, "-inf": -math.inf, "null": None, "text": "zz", "list": [5000, 1],
    "document": {"n": 1}, "true": True, "decimal nan": Decimal128("NaN"), "signalling": Decimal128("sNaN"),
    "decimal inf": Decimal128("-Infinity"), "date": datetime(2011, 7, 1, tzinfo=UTC), "bytes": b"x",
}  # fmt: skip


@pytest.fixture
def ranked(database: Database[dict[str, Any]], aggregate: Aggregate) -> Callable[..., list[Any]]:
    """Return a function that writes values and returns the keys in their order."""

    def keys(values: dict[Any, Any], sort: str, limit: int = 100, **condition: Any) -> list[Any]:
        aggregate("r", values)
        return [document["_id"] for document in read_ranked(database, "zagg.r", condition, sort, limit)]

    return keys


@pytest.mark.parametrize(("sort", "expected"), [("-value", ["big", "mid", "low"]), ("value", ["low", "mid", "big"])])
def test_no_value_of_another_kind_takes_the_place_of_a_number(ranked: Any, sort: str, expected: list[str]) -> None:
    values = {**ODD, "big": 1000, "mid": 600.5, "low": -1}
    assert ranked(values, sort, limit=3) == expected
    everything = ranked(values, sort)
    assert everything[:3] == expected
    assert sorted(everything) == sorted(values)


def test_values_that_are_nothing_come_last_in_the_order_of_their_keys(ranked: Any) -> None:
    values = {"b": math.nan, "a": math.inf, "d": None, "c": -math.inf, "text": "x", "one": 1}
    for sort in ("value", "-value"):
        assert ranked(values, sort) == ["one", "text", "a", "b", "c", "d"]


def test_a_field_that_is_missing_ranks_as_nothing(ranked: Any) -> None:
    values = {"none": {}, "low": {"n": 1, "m": math.nan}, "high": {"n": 2, "m": 3}, "nan": {"n": math.nan}, "flat": 7}
    assert ranked(values, "value.n", 2) == ["low", "high"]
    assert ranked(values, "-value.n", 2) == ["high", "low"]
    assert ranked(values, "value.m", 1) == ["high"]
    assert ranked(values, "-value.n", 5)[2:] == ["flat", "nan", "none"]


def test_numbers_of_all_types_are_one_order_and_ties_go_by_key(ranked: Any) -> None:
    values = {
        "c": Int64(2**62), "b": float(2**62), "a": Decimal128("4611686018427387904"), "more": Int64(2**62 + 1),
        "most": Decimal128("1E+6000"), "least": -1e308, "zero": -0.0, "also zero": 0, "tiny": 5e-324,
    }  # fmt: skip
    expected = ["most", "more", "a", "b", "c", "tiny", "also zero", "zero", "least"]
    assert ranked(values, "-value") == expected
    assert ranked(values, "value") == ["least", "also zero", "zero", "tiny", "a", "b", "c", "more", "most"]


def test_texts_and_dates_are_ranked_among_themselves(ranked: Any) -> None:
    values = {"x": "b", "y": "a", "z": None}
    assert ranked(values, "value") == ["y", "x", "z"]
    assert ranked(values, "-value") == ["x", "y", "z"]
    assert ranked(values, "-_id", 2) == ["z", "y"]


def test_numbers_inside_lists_do_not_rank(ranked: Any) -> None:
    values = {"list": [1, math.inf], "deep": [{"n": 9}], "deeper": {"n": [9, "x"]}, "one": {"n": 1}}
    assert ranked(values, "-value.n", 1) in (["deep"], ["one"])  # a path goes through a list, as everywhere in MongoDB
    assert ranked({**values, "deep": [{"n": 9}, {"n": math.inf}]}, "-value.n", 1) == ["one"]
    assert ranked({**values, "deep": [{"n": 9}, {"n": math.nan}]}, "value.n", 1) == ["one"]


def test_the_condition_holds_for_all_of_them(ranked: Any) -> None:
    values = {"a": 1, "b": math.nan, "c": 3, "d": None}
    assert ranked(values, "-value", _id={"$in": ["a", "b"]}) == ["a", "b"]
    assert ranked(values, "-value", value={"$gt": 1}) == ["c"]
    assert ranked(values, "-value", value=math.nan) == ["b"]


def test_an_index_on_the_field_is_used(database: Database[dict[str, Any]], aggregate: Aggregate) -> None:
    aggregate("r", {"x": 1})
    database["zagg.r"].insert_many([{"_id": f"k{number}", "value": number} for number in range(2000)])
    database["zagg.r"].create_index([("value", -1), ("_id", 1)])
    database.command("profile", 2)
    assert len(read_ranked(database, "zagg.r", {}, "-value", 10)) == 10
    database.command("profile", 0)
    profile = database.get_collection("system.profile", read_concern=ReadConcern("local"))  # is not replicated
    entries = list(profile.find({"ns": f"{database.name}.zagg.r", "op": "query"}))
    assert [entry["docsExamined"] for entry in entries] == [10]

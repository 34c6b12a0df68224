"""Whatever kind of value a key is, full runs, increments, rebuilds and recounts treat it alike, as MongoDB does."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from bson.binary import Binary
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.timestamp import Timestamp
from pymongo.database import Database

from aggregates.run.context import RunContext
from aggregates.run.full import full_run, rebuild
from mapreduce.codec import decode_batches
from mapreduce.key import identity
from mapreduce.step import reduce
from tests.support.aggregates.definitions import define
from tests.support.aggregates.event_source import NOON, Producer, event

ALIKE: list[tuple[Any, ...]] = [  # values that are one key each
    (5_000_000_000, Int64(5_000_000_000), 5e9, Decimal128("5E+9")),
    (-5_000_000_000, -5e9),
    (2**31, float(2**31)),
    (-(2**31) - 1,),
    (2**63 - 1,),
    (-(2**63),),
    (1, Int64(1), 1.0, Decimal128("1.0")),
    (True,),
    (None,),
    (0.5, Decimal128("0.5")),
    (1e300,),
    (Decimal128("0.1"),),
    ("text",),
    ("",),
    (b"bytes", Binary(b"bytes", 0)),
    (Binary(b"bytes", 128),),
    (Binary(UUID(int=7).bytes, 4),),
    (Binary(b"no UUID", 4),),
    (ObjectId("0123456789abcdef01234567"),),
    (Timestamp(5, 6),),
    (datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), DatetimeMS(-1)),
    (DatetimeMS(2**52),),
    (MinKey(),),
    (MaxKey(),),
    ({"a": 2**40, "b": {"c": 1}}, {"a": float(2**40), "b": {"c": Int64(1)}}),
    ({},),
]


@pytest.fixture
def database(database: Database[dict[str, Any]]) -> Database[dict[str, Any]]:
    """Return the database as processes open it: they can read dates beyond Python's years."""
    options = database.codec_options.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    return database.with_options(codec_options=options)


EACH = [value for values in ALIKE for value in values]


def counts(run_context: RunContext, pipeline: list[Any], collection: str) -> dict[Hashable, int]:
    """Return the counts by key that a pipeline finds."""
    batches = run_context.database[collection].aggregate_raw_batches(pipeline)
    return {identity(document["_id"])[0]: document["count"] for document in decode_batches(batches)}


@pytest.mark.parametrize("merged", [False, True])
def test_all_kinds_of_keys_are_grouped_as_mongodb_groups_them(
    merged: bool, run, run_context: RunContext, producer: Producer, right, monkeypatch
) -> None:
    if merged:  # as partitions are that do not fit into memory
        monkeypatch.setattr(reduce, "_in_memory", reduce._merged)
    definition = define("CountByItself")
    for times in (1, 2, 3):  # a full run, then increments that merge
        producer.send(*(event(by=value) for value in EACH))
        run(definition)
        right(definition)
        found = counts(run_context, [{"$project": {"count": "$value"}}], "zagg.countbyitself")
        by_value = {"$group": {"_id": "$extra.by", "count": {"$sum": 1}}}
        deep = {"in": "$extra.by", "all": ["$extra.by", {"deep": "$extra.by"}]}
        by_document = {"$group": {"_id": deep, "count": {"$sum": 1}}}
        assert found == {**counts(run_context, [by_value], "event.1"), **counts(run_context, [by_document], "event.1")}
        assert len(found) == 2 * len(ALIKE)
        assert sum(found.values()) == 2 * times * len(EACH)
    for again in (full_run, lambda *of: rebuild(*of, NOON, NOON + timedelta(days=1))):
        again(run_context, definition)
        right(definition)
        assert counts(run_context, [{"$project": {"count": "$value"}}], "zagg.countbyitself") == found

"""Verification keeps only part of the keys and values in memory, and finds the same differences as with all."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64

from aggregates.run import verify as verification
from aggregates.run.external_sort import ExternalSort
from aggregates.run.inputs import readable_input
from aggregates.run.recount import Recounter, key_order
from aggregates.run.verify import verify
from tests.support.aggregates.definitions import define
from tests.support.aggregates.event_source import NOON, event


@pytest.mark.parametrize(
    "same",
    [
        (1, 1.0, Int64(1), Decimal128("1.00")),
        (0.5, Decimal128(Decimal("0.5"))),
        ({"a": 1}, {"a": 1.0}),
        (NOON, NOON.replace(tzinfo=None), NOON.replace(microsecond=900)),
        (float("inf"), Decimal128("Infinity")),
    ],
)
def test_equal_keys_have_the_same_key_order(same: tuple[Any, ...]) -> None:
    assert len({key_order(key) for key in same}) == 1


def test_different_keys_have_different_key_orders():
    keys = [
        1,
        True,
        None,
        "1",
        b"1",
        1.5,
        2**53 + 1,
        float(2**53),
        {"a": 1},
        {"b": 1},
        datetime(2011, 7, 1, tzinfo=UTC),
    ]
    assert len({key_order(key) for key in keys}) == len(keys)


def test_an_external_sort_yields_records_in_order_and_keeps_the_order_of_equal_keys():
    with ExternalSort(memory_bytes=20_000) as external_sort:
        for number in range(1_000):
            external_sort.add(("out", b"%d" % (number % 7)), {"n": number})
        assert external_sort.file_count > 5
        found = [(sort_key[1], record["n"]) for sort_key, record in external_sort]
    assert found == sorted(found)
    assert len(found) == 1_000


def test_an_external_sort_stays_within_its_memory_limit():
    def peak(memory_bytes: int) -> int:
        tracemalloc.start()
        with ExternalSort(memory_bytes) as external_sort:
            for number in range(30_000):
                external_sort.add(("out", b"%08d" % number), {"k": f"key-{number}", "v": [number, "x" * 50]})
            assert sum(1 for _ in external_sort) == 30_000
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(2**20) < 4 * 2**20
    assert peak(2**30) > 12 * 2**20


@pytest.mark.parametrize("task", ["CountByDay", "Mean", "Median", "PerType", "TwoSources"])
def test_a_recount_with_little_memory_gives_the_same(task, run_context, producer):
    producer.send(*(event(f"t{n % 3}", NOON, f"p{n % 90}", n=n) for n in range(900)))
    definition = define(task)
    readable = readable_input(run_context, definition)
    plan = run_context.plan(definition, readable.range(None, readable.through), full=True)

    def counted(memory_bytes: int, least_runs: int) -> list[Any]:
        with closing(Recounter(plan, run_context.database, memory_bytes)) as recounter:
            recounter.add_range(readable.range(0, readable.through))
            assert recounter.file_count >= least_runs
            return list(recounter.results())

    assert counted(300, 2) == counted(2**30, 0)


def test_differences_are_the_same_with_little_memory(run_context, producer, run, database, monkeypatch):
    definition = define("CountByDay")
    producer.send(*(event(project=f"p{n % 300}") for n in range(900)))
    run(definition)
    stored = database["zgen.countbyday.1"]
    stored.delete_one({"_id": "p7/2011-07-01"})
    stored.update_one({"_id": "p8/2011-07-01"}, {"$set": {"value": 9}})
    stored.insert_one({"_id": "never", "value": 1, "through": 1})
    whole = verify(run_context, definition)
    monkeypatch.setattr(verification, "ExternalSort", lambda: ExternalSort(5_000))
    monkeypatch.setattr(verification, "Recounter", lambda plan, home: Recounter(plan, home, 5_000))
    pieces = verify(run_context, definition)
    assert pieces == whole
    assert {(d.key, d.kind) for d in whole.differences} == {
        ("p7/2011-07-01", "missing"),
        ("p8/2011-07-01", "different"),
        ("never", "unexpected"),
    }

"""Rotation in the middle of a run, out-of-order commits of several ingesters, and one bad event among many."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from aggregates.exceptions import RunFailedError
from aggregates.run import failpoint
from aggregates.run.context import RunContext
from aggregates.run.full import full_run
from ingest.store.store import connect
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import NOON, Producer, event, rotate


@pytest.fixture
def hook() -> Iterator[Any]:
    """Yield a function that sets `failpoint.hook`; remove the hook at the end."""
    yield lambda function: setattr(failpoint, "hook", function)
    failpoint.hook = None


@pytest.mark.parametrize("kind", ["increment", "full"])
def test_rotation_at_every_point_of_a_run_changes_no_result(
    kind, run, run_context: RunContext, store, producer, right, hook
):
    definition = define("CountByDay")
    producer.send(*(event(project=f"p{n % 3}") for n in range(9)))
    run(definition)
    rotated: set[str] = set()

    def reach(point: str) -> None:
        if point not in rotated:
            rotated.add(point)
            rotate(store)
            producer.send(event(project=point), event(at=NOON - timedelta(days=800)))

    producer.send(event(), event())
    hook(reach)
    full_run(run_context, definition) if kind == "full" else run(definition)
    hook(None)
    assert len(rotated) >= 6
    assert len(store.watermark().partitions) == len(rotated) + 1
    right(definition)
    run(definition)
    right(definition)
    assert sum(values(run_context.database, "countbyday").values()) == 11 + 2 * len(rotated)


def test_out_of_order_commits_of_three_ingesters_lose_and_double_nothing(
    run, run_context: RunContext, mongo_uri, database, right
):
    chance = random.Random(3)
    stores = [connect(mongo_uri, database.name) for _ in range(3)]
    definition = define("CountByDay")
    try:
        producers = [Producer(store) for store in stores]
        sent, waiting = 0, []
        for _ in range(60):
            producer = chance.choice(producers)
            if waiting and chance.random() < 0.5:
                settled, block = waiting.pop(chance.randrange(len(waiting)))
                settled.settle(block)
            else:
                count = chance.randrange(1, 6)
                years = timedelta(days=chance.randrange(4_000))
                waiting.append((producer, producer.reserve([event(at=NOON - years) for _ in range(count)])))
                sent += count
            if chance.random() < 0.4:
                run(definition)
                right(definition)
        for settled, block in waiting:
            settled.settle(block)
        run(definition)
    finally:
        for store in stores:
            store.connection.close()
    right(definition)
    assert sum(values(database, "countbyday").values()) == sent


def one_bad_event(count: int, run: Any, producer: Producer, right: Any, database: Any) -> None:
    """Check both ways to treat an event on which the map fails, among `count` good ones."""
    strict, lenient = define("Fragile"), define("Tolerant")
    producer.send(event("a"))
    run(strict)
    run(lenient)
    bad = count // 3
    for start in range(0, count, 10_000):
        producer.send(*(event("a", bad=n == bad) for n in range(start, min(start + 10_000, count))))
    identity = bad + 2  # ids start at 1, and one event was stored before
    with pytest.raises(RunFailedError, match=f"bad event {identity}"):
        run(strict)
    assert values(database, "fragile") == {"a": 1}
    outcome = run(lenient)
    assert (outcome.counts.skipped, outcome.counts.skipped_count) == ((identity,), 1)
    assert values(database, "tolerant") == {"a": count}
    right(lenient)
    database["event.1"].update_one({"_id": identity}, {"$set": {"extra.bad": False}})  # as if a person had corrected it
    run(strict)
    assert values(database, "fragile") == {"a": count + 1}
    right(strict)


def test_one_bad_event_among_thousands_stops_or_is_skipped_as_the_task_says(run, producer, right, database):
    one_bad_event(12_000, run, producer, right, database)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_one_bad_event_in_a_million_stops_or_is_skipped_as_the_task_says(run, producer, right, database):
    one_bad_event(1_000_000, run, producer, right, database)

"""Tasks over measurements give the same numbers for every order and grouping of batches."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from typing import Any

import bson
import pytest

from aggregates.agg_tasks import MetricCounters, MetricDelivery, MetricGauges, MetricSets, MetricTimers
from ingest.metrics.accumulate import DistinctValues, Distribution
from ingest.metrics.backend.zarkov import event_of
from ingest.metrics.identity import identity
from ingest.metrics.wire import Batch

EPOCH = 1_300_000_000 - 1_300_000_000 % 60


def events_of(values: list[float], size: int, **options: Any) -> list[dict[str, Any]]:
    outcome = options.pop("outcome", "")
    who = identity("Timer", "info", options.pop("name", "a/b"), "shop", options.pop("tags", None))
    found = []
    for number, start in enumerate(range(0, len(values), size)):
        gathered = Distribution(who.failed() if outcome else who)
        for value in values[start : start + size]:
            gathered.add(value)
        summary = gathered.collect()
        assert summary is not None
        found.append(event_of(Batch(
            gathered.identity, EPOCH + number % 40, summary.count, summary.sum, "p", number + 1, start,
            summary.min, summary.max, summary.last, summary.sketch,
        )))  # fmt: skip
    return found


def reduced(task: Any, events: list[dict[str, Any]], groups: int = 3) -> dict[str, Any]:
    """Map, reduce in groups, reduce the results, finalize."""
    by_key: dict[str, list[Any]] = {}
    for key, value in task.map(iter(events)):
        by_key.setdefault(key, []).append(value)
    result = {}
    for key, values in by_key.items():
        random.shuffle(values)
        parts = [task.reduce(key, values[n::groups]) for n in range(groups) if values[n::groups]]
        result[key] = task.finalize(key, task.reduce(key, parts))
        bson.encode({"first": values, "reduced": parts, "final": result[key]})  # as they are stored
    return result


def test_timers_keep_their_quantiles_for_every_grouping() -> None:
    values = [random.expovariate(10) + 0.001 for _ in range(5_000)]
    events = events_of(values, 97) + events_of(values[:100], 10, outcome="error")
    (found,) = reduced(MetricTimers(), events).values()
    everything = sorted(values + values[:100])
    assert (found["count"], found["errors"]) == (5_100, 100)
    assert found["rate"] == 85
    for field, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert found[field] == pytest.approx(everything[int(share * (len(everything) - 1))], rel=0.0101)
    assert (found["min"], found["max"]) == (everything[0], everything[-1])
    assert found["mean"] == pytest.approx(sum(everything) / 5_100)


def test_keys_contain_tags_and_the_minute() -> None:
    (key,) = reduced(MetricTimers(), events_of([1.0], 1, tags={"b": 2, "a": "x/y"}))
    assert key == "a%2Fb{a=x%2Fy,b=2}/shop/2011-03-13T07:06Z"
    assert MetricTimers().period(key) == (
        datetime(2011, 3, 13, 7, 6, tzinfo=UTC), datetime(2011, 3, 13, 7, 7, tzinfo=UTC),
    )  # fmt: skip


def test_counters_leave_out_what_failed_and_scale_what_was_sampled() -> None:
    who = identity("Counter", "info", "c", "s")
    sampled = identity("Counter", "info", "c", "s", rate=0.5)
    batches = [Batch(who, EPOCH, 3, 15), Batch(who.failed(), EPOCH, 2, 10), Batch(sampled, EPOCH, 4, 4)]
    (found,) = reduced(MetricCounters(), [event_of(batch) for batch in batches]).values()
    assert found == {"rate": 23 / 60, "sum": 23, "count": 11, "errors": 2}


def test_sums_beyond_64_bits_become_numbers_that_can_be_stored() -> None:
    who = identity("Counter", "info", "c", "s")
    (found,) = reduced(MetricCounters(), [event_of(Batch(who, EPOCH, 2**62, 2**62)) for _ in range(5)]).values()
    assert found["sum"] == found["count"] == 5 * 2**62
    rare = identity("Counter", "info", "c", "s", rate=1e-9)
    (huge,) = reduced(MetricCounters(), [event_of(Batch(rare, EPOCH, 2**62, 1e308)) for _ in range(5)]).values()
    gauge = identity("Gauge", "info", "g", "s")
    sketch = {"positive": [35400, 2**62]}
    batch = Batch(gauge, EPOCH, 2**62, 1e308, "p", 1, 2**62, 1e308, 1e308, 1e308, sketch)
    (gauges,) = reduced(MetricGauges(), [event_of(batch) for _ in range(5)]).values()
    assert gauges["mean"] == gauges["p95"] == 1e308
    (delivery,) = reduced(MetricDelivery(), [event_of(batch) for _ in range(5)]).values()
    for value in (found, huge, gauges, delivery):
        assert all(math.isfinite(number) for number in value.values())


def test_different_metrics_have_different_keys() -> None:
    ways = [
        ("a", {"b": "1,c=2"}), ("a", {"b": "1", "c": "2"}), ("a{b=1}", None), ("a", {"b": "1"}), ("a{b", None),
        ("a", {"b=1,c": "2"}), ("a", {"b": "1}"}), ("a%7Bb=1%7D", None),
    ]  # fmt: skip
    keys = {key for name, tags in ways for key in reduced(MetricTimers(), events_of([1.0], 1, name=name, tags=tags))}
    assert len(keys) == len(ways)


def test_sets_are_merged() -> None:
    events = []
    for start in (0, 5, 90):
        gathered = DistinctValues(identity("Set", "info", "u", "s"))
        for n in range(start, start + 10):
            gathered.add(str(n))
        summary = gathered.collect()
        assert summary is not None
        events.append(event_of(Batch(gathered.identity, EPOCH, summary.count, summary.sum, sketch=summary.sketch)))
    (found,) = reduced(MetricSets(), events).values()
    assert found == {"distinct": 25, "count": 30}


def test_delivery_counts_missing_measurements_exactly() -> None:
    events = events_of([1.0] * 100, 10)
    del events[3], events[0]
    assert reduced(MetricDelivery(), events) == {
        "p/info": {"measurements": 80, "lost_measurements": 20, "batches": 8, "lost_batches": 2}
    }

"""The same count by all engines, by MongoDB's `mapReduce` command and by `$group`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from aggregates.sample.content import EVENT_COUNT
from aggregates.sample.content import events as sample_events
from mapreduce.engine import open_engine
from mapreduce.job.spec import JobSpec, Output, Source
from mapreduce.settings import EngineSettings
from tests.bench.peers.mr_sequential import run_command
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import values

MAP = "function() { emit(this.type, 1); }"


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(1_800)])]
)
def test_all_ways_to_count_agree_on_skewed_keys(
    shared_cluster: Cluster,
    make_settings: Callable[..., EngineSettings],
    database: Database[dict[str, Any]],
    count: int,
) -> None:
    rng = random.Random(os.urandom(8))
    for first in range(0, count, 20_000):
        # Pareto: a few keys have most of the events, most keys have one.
        keys = [int(rng.paretovariate(0.3)) % 10**12 for _ in range(20_000)]
        database["event.1"].insert_many([{"_id": first + n, "type": f"k{key}"} for n, key in enumerate(keys)])
    spec = {
        "database": database.name,
        "sources": (Source(("event.1",), "tests.support.mapreduce.tasks:by_type", fields=("type",)),),
        "reduce_name": "tests.support.mapreduce.tasks:add",
    }
    shared_cluster.engine.run(JobSpec(outputs={"": Output("zagg.zmq", "replace")}, **spec), 900)
    with open_engine(make_settings()) as inline:
        inline.run(JobSpec(outputs={"": Output("zagg.inline", "replace")}, **spec))
    run_command(database, MAP, "command")
    grouped = database["event.1"].aggregate([{"$group": {"_id": "$type", "value": {"$sum": 1}}}], allowDiskUse=True)
    expected = {document["_id"]: document["value"] for document in grouped}
    assert sum(expected.values()) == count
    for name in ("zagg.zmq", "zagg.inline", "command"):
        assert values(database, name) == expected, name


def test_all_ways_to_count_agree_on_the_events_of_real_histories(
    shared_cluster: Cluster, make_settings: Callable[..., EngineSettings], database: Database[dict[str, Any]]
) -> None:
    """Lines changed and events by project and day, both engines, the command, `$group`, and a plain loop."""
    documents: list[dict[str, Any]] = []
    expected: dict[str, list[int]] = {}
    for number, event in enumerate(sample_events(), start=1):
        documents.append({**event, "_id": number})
        found = expected.setdefault(f"{event['context']['project']}/{event['timestamp']:%Y-%m-%d}", [0, 0])
        found[0] += 1
        found[1] += event["extra"]["insertions"]
    assert len(documents) == EVENT_COUNT
    database["event.1"].insert_many(documents)
    spec = {
        "database": database.name,
        "sources": (
            Source(
                ("event.1",), "tests.support.mapreduce.tasks:lines_by_day", fields=("timestamp", "context", "extra")
            ),
        ),
        "reduce_name": "tests.support.mapreduce.tasks:add_each",
        "map_job_size": 5_000,
    }
    shared_cluster.engine.run(JobSpec(outputs={"": Output("zagg.zmq", "replace")}, **spec), 300)
    with open_engine(make_settings()) as inline:
        inline.run(JobSpec(outputs={"": Output("zagg.inline", "replace")}, **spec))
    for name in ("zagg.zmq", "zagg.inline"):
        assert values(database, name) == expected, name

    day = "this.context.project + '/' + this.timestamp.toISOString().slice(0, 10)"
    run_command(database, f"function() {{ emit({day}, this.extra.insertions); }}", "command")
    assert values(database, "command") == {key: lines for key, (_, lines) in expected.items()}
    day_key = {"$concat": ["$context.project", "/", {"$dateToString": {"format": "%Y-%m-%d", "date": "$timestamp"}}]}
    counts = {"events": {"$sum": 1}, "lines": {"$sum": "$extra.insertions"}}
    grouped = database["event.1"].aggregate([{"$group": {"_id": day_key, **counts}}])
    assert {item["_id"]: [item["events"], item["lines"]] for item in grouped} == expected

"""The same count by all engines, by MongoDB's `mapReduce` command and by `$group`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from mapreduce.engine import open_engine
from mapreduce.settings import EngineSettings
from mapreduce.spec import JobSpec, Output, Source
from tests.bench.peers.mr_sequential import run_command
from tests.mapreduce.cluster import Cluster
from tests.mapreduce.test_engine import values

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
        "sources": (Source(("event.1",), "tests.mapreduce.tasks:by_type", fields=("type",)),),
        "reduce_name": "tests.mapreduce.tasks:add",
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

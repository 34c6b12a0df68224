"""Events, jobs over them, and the expected results."""

from __future__ import annotations

import collections
import datetime
from pathlib import Path
from typing import Any

from pymongo.database import Database

from mapreduce.job.spec import JobSpec, Output, Source
from tests.support.mapreduce.cluster import Cluster
from tests.support.waiting import eventually

T = "tests.support.mapreduce.tasks:"
Data = Database[dict[str, Any]]
Events = list[dict[str, Any]]
SPEC = JobSpec(
    database="db",
    sources=(Source(("event.1", "event.2"), "m:f", query={"type": {"$in": ["a"]}}, fields=("type",)),),
    outputs={"": Output("zagg.x", "reduce")},
    reduce_name="m:r",
    params={"a.b": 1},
    stamp=(0, 10),
    code={"m.n": "ab"},
)


def make_events(count: int) -> list[dict[str, Any]]:
    """Return events with skewed types and days; id 10 is missing."""
    start = datetime.datetime(2024, 2, 27, tzinfo=datetime.UTC)
    return [
        {
            "_id": number,
            "type": "abcdefgh"[(number * number) % 8],
            "timestamp": start + datetime.timedelta(minutes=number * 7),
            "project": f"p{number % 3}",
        }
        for number in range(1, count + 1)
        if number != 10
    ]


def job(database: Data, map_name: str = "by_type", **changes: Any) -> JobSpec:
    values: dict[str, Any] = {
        "database": database.name,
        "sources": (Source(("event.1", "event.2"), T + map_name),),
        "outputs": {"": Output("zagg.x", "reduce")},
        "reduce_name": T + "add",
        "id_min": 0,
        "id_max": 5_000,
        **changes,
    }
    return JobSpec(**values)


def values(database: Data, name: str = "zagg.x") -> dict[Any, Any]:
    return {document["_id"]: document["value"] for document in database[name].find()}


def types(events: Events, low: int = 0, high: int = 10**9) -> dict[str, int]:
    return dict(collections.Counter(event["type"] for event in events if low < event["_id"] <= high))


def gated(database: Data, gate: Path, *, in_reduce: bool = False, **changes: Any) -> JobSpec:
    """Return a job that stays in its map, or in its finalize steps, while the file `gate` exists."""
    gate.touch()
    number = -1 if in_reduce else 7
    return job(
        database,
        "Forever.map",
        finalize_name=T + "Forever.finalize",
        params={"gate": str(gate), "number": number},
        **changes,
    )


def start_gated(cluster: Cluster, database: Data, gate: Path, *, in_reduce: bool = False, **changes: Any) -> JobSpec:
    """Submit a `gated` job, and return it once it is where it stays."""
    spec = gated(database, gate, in_reduce=in_reduce, **changes)
    cluster.engine.submit(spec)
    in_state(cluster, spec.job_id, "finalize" if in_reduce else "map")
    return spec


def in_state(cluster: Cluster, job_id: str, *states: str) -> None:
    eventually(
        lambda: cluster.engine.status(job_id).state in states, what=f"job in {states}: {cluster.engine.status(job_id)}"
    )

"""Benchmarks of the map-reduce engine: count by day and project over 500,000 events of about 180 bytes.

`BENCHMARKS` maps each name to a function that returns `{name, ours, peer, ratio, unit, must, ok}`. Both sides write the
same documents as durably, and their outputs are compared after the last round.
"""

from __future__ import annotations

import datetime
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.database import Database

from mapreduce.job.spec import JobSpec, Output, Source
from tests.bench.peers import mr_script, mr_sequential, mr_tasks
from tests.support.mapreduce.cluster import Cluster
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod

EVENTS = 500_000
ROUNDS = 5
TASKS = "tests.bench.peers.mr_tasks"
Figure = dict[str, Any]


class Setup:
    """A mongod with events, and a cluster of a given number of workers."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self.uri = uri
        self.client: MongoClient[dict[str, Any]] = MongoClient(uri, tz_aware=True)
        self.database: Database[dict[str, Any]] = self.client["bench"]
        self._clusters: list[Cluster] = []

    def fill(self, events: int, users: int) -> None:
        """Insert events with ids from 1, over one year, five projects and `users` users."""
        rng = random.Random(7)
        start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
        for first in range(1, events + 1, 20_000):
            documents = [
                {
                    "_id": number,
                    "type": "change",
                    "timestamp": start + datetime.timedelta(seconds=rng.randrange(365 * 86_400)),
                    "context": {"project": f"project{rng.randrange(5)}", "user": f"user{rng.randrange(users)}"},
                    "extra": {"insertions": rng.randrange(100), "note": "x" * 24},
                }
                for number in range(first, min(first + 20_000, events + 1))
            ]
            raw = [RawBSONDocument(bson.encode(document)) for document in documents]
            self.database["event.1"].insert_many(raw, ordered=False)

    def cluster(self, workers: int, name: str) -> Cluster:
        """Return a cluster with this number of ready workers."""
        cluster = Cluster(self.folder / name, self.uri, "bench", allowed_modules=[TASKS], spare_processes=1)
        self._clusters.append(cluster)
        return cluster.start(workers)

    def spec(self, map_name: str = "by_day_and_project", **changes: Any) -> JobSpec:
        """Return the job of the benchmarks, with `changes`."""
        fields = ("context.user",) if map_name == "by_user" else mr_tasks.FIELDS
        values: dict[str, Any] = {
            "database": "bench",
            "sources": (Source(("event.1",), f"{TASKS}:{map_name}", fields=fields),),
            "outputs": {"": Output("zagg.ours", "replace")},
            "reduce_name": f"{TASKS}:add",
            "id_min": 0,
            "id_max": EVENTS,
            **changes,
        }
        return JobSpec(**values)

    def equal(self, one: str, other: str) -> None:
        """Fail unless both collections hold the same values by key."""
        left, right = ({d["_id"]: d["value"] for d in self.database[name].find()} for name in (one, other))
        assert left == right, f"{one} and {other} differ"

    def close(self) -> None:
        for cluster in self._clusters:
            cluster.stop()
        self.client.close()


@contextmanager
def set_up(events: int = EVENTS, users: int = 200_000) -> Iterator[Setup]:
    """Yield a mongod of the benchmark's own, filled with events."""
    folder = Path(tempfile.mkdtemp(prefix="zarkov-bench-"))
    mongod = LocalMongod(HomeFolder(folder / "home"))
    try:
        found = Setup(folder, mongod.start())
        try:
            found.fill(events, users)
            yield found
        finally:
            found.close()
    finally:
        mongod.stop()
        shutil.rmtree(folder, ignore_errors=True)


def seconds(work: Callable[[], Any]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(ours: Callable[[], Any], peer: Callable[[], Any], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median seconds of both, run in turns, after one round that does not count."""
    ours(), peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def rate(name: str, events: int, ours_s: float, peer_s: float, must: float) -> Figure:
    """Return a figure in events per second: more is better."""
    ratio = peer_s / ours_s
    return {
        "name": name,
        "ours": round(events / ours_s),
        "peer": round(events / peer_s),
        "ratio": round(ratio, 3),
        "unit": "events/s",
        "must": f">={must}",
        "ok": ratio >= must,
    }


def vs_mapreduce() -> Figure:
    """Compare with MongoDB's `mapReduce` command."""
    with set_up() as here:
        engine = here.cluster(2, "two").engine
        peer = partial(mr_sequential.run_command, here.database, mr_sequential.MAP_DAY, "peer")
        times = alternate(lambda: engine.run(here.spec(), 600), peer)
        here.equal("zagg.ours", "peer")
    return rate("mr.vs_mapreduce", EVENTS, *times, must=2.5)


def vs_script() -> Figure:
    """Compare with a hand-written script of two processes."""
    with set_up() as here:
        engine = here.cluster(2, "two").engine
        pool = mr_script.make_pool()
        try:
            peer = partial(mr_script.run, pool, here.uri, "bench", EVENTS, "peer")
            times = alternate(lambda: engine.run(here.spec(), 600), peer)
        finally:
            pool.terminate()
            pool.join()
        here.equal("zagg.ours", "peer")
    return rate("mr.vs_script", EVENTS, *times, must=0.9)


def vs_sequential() -> Figure:
    """Compare with the definition of map-reduce in one process."""
    with set_up() as here:
        engine = here.cluster(2, "two").engine
        peer = partial(mr_sequential.run_sequential, here.database, mr_tasks.by_day_and_project, mr_tasks.add, "peer")
        times = alternate(lambda: engine.run(here.spec(), 600), peer)
        here.equal("zagg.ours", "peer")
    return rate("mr.vs_sequential", EVENTS, *times, must=3.0)


def many_keys() -> Figure:
    """Compare 200,000 distinct keys with the `mapReduce` command."""
    with set_up() as here:
        engine = here.cluster(2, "two").engine
        peer = partial(mr_sequential.run_command, here.database, mr_sequential.MAP_USER, "peer")
        times = alternate(lambda: engine.run(here.spec("by_user"), 600), peer)
        here.equal("zagg.ours", "peer")
    return rate("mr.many_keys", EVENTS, *times, must=1.3)


def small_job() -> Figure:
    """Measure a job over 100 new events from start to end; its results are merged into stored documents."""
    with set_up(events=50_000) as here:
        engine = here.cluster(2, "two").engine
        output = {"": Output("zagg.ours", "reduce")}
        times = []
        for low in range(0, 5_000, 100):
            spec = here.spec(outputs=output, id_min=low, id_max=low + 100)
            times.append(seconds(partial(engine.run, spec, 60)))
        ours = statistics.median(times[5:]) * 1000
    return {
        "name": "mr.small_job",
        "ours": round(ours, 1),
        "peer": None,
        "ratio": round(ours, 1),
        "unit": "ms",
        "must": "<=100",
        "ok": ours <= 100,
    }


def scaling() -> Figure:
    """Measure the gain of two workers over one, with about 20 microseconds of Python per event."""
    events = 200_000
    with set_up(events=events) as here:
        one, two = here.cluster(1, "one").engine, here.cluster(2, "two").engine
        spec = partial(here.spec, "slow_by_day_and_project", id_max=events)
        times = alternate(lambda: two.run(spec(), 600), lambda: one.run(spec(), 600))
    return rate("mr.scaling", events, *times, must=1.7)


def _peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever had resident (proc(5), VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def memory() -> Figure:
    """Measure the most that the router or a process of a worker takes with 2,000,000 events and 500,000 keys."""
    with set_up(events=2_000_000, users=500_000) as here:
        cluster = here.cluster(2, "two")
        status = cluster.engine.run(here.spec("by_user", id_max=2_000_000), 900)
        processes = [cluster.router, *cluster.workers]
        pids = [process.pid for process in processes if process is not None]
        pids += [child.pid for worker in cluster.workers for child in cluster.executors(worker)]
        peaks = [_peak_bytes(pid) for pid in pids]
        assert status.progress["docs_in"] == 2_000_000
        assert here.database["zagg.ours"].count_documents({}) == status.progress["keys_out"] > 480_000
        ours = max(peaks) / 1e6
    return {
        "name": "mr.memory",
        "ours": round(ours, 1),
        "peer": None,
        "ratio": round(ours, 1),
        "unit": "MB",
        "must": "<=300",
        "ok": ours <= 300,
    }


BENCHMARKS: dict[str, Callable[[], Figure]] = {
    "mr.vs_mapreduce": vs_mapreduce,
    "mr.vs_script": vs_script,
    "mr.vs_sequential": vs_sequential,
    "mr.many_keys": many_keys,
    "mr.small_job": small_job,
    "mr.memory": memory,
    "mr.scaling": scaling,
}

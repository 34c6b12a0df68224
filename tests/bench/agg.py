"""Figures of the aggregation service: cost of an increment, freshness, ceiling, idling.

`BENCHMARKS` has each by name; called, it returns rows `{name, ours, peer, ratio, unit, must, ok}`. Alone:
`python -m tests.bench.agg [NAME ...]`.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from pymongo.database import Database

from aggregates.definition.definition import Definition
from aggregates.run.context import RunContext
from aggregates.run.full import full_run
from aggregates.run.incremental import refresh
from aggregates.run.outcome import Outcome
from aggregates.run.verify import verify
from ingest.client import ZarkovClient
from ingest.store.store import connect
from mapreduce.job.spec import Output
from mapreduce.step.commit import CommitJob, commit
from tests.support.aggregates.event_source import Producer
from tests.support.aggregates.stack import Stack
from tests.support.mapreduce.cluster import Cluster
from tests.support.waiting import eventually
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod

Row = dict[str, Any]
TASKS = "tests.support.aggregates.tasks"
START = datetime(2011, 1, 1, tzinfo=UTC)
OLD_MANY, OLD_FEW, NEW = 1_000_000, 50_000, 2_000
ROUNDS = 7
REALTIME = ("CountByDay", "Style2011", "Scaled", "FragileReduce", "TwoSources")
RATE = 1_000
FRESH_S, CEILING_S, IDLE_S = 20.0, 60.0, 20.0
MERGE_KEYS, MERGE_ROUNDS = 20_000, 5
POLL_S = 0.002  # between two looks, so that looking does not take a core from what is measured


@contextmanager
def mongod() -> Iterator[str]:
    """Connection string of a mongod for one benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        mongod = LocalMongod(HomeFolder(Path(folder)))
        try:
            yield mongod.start()
        finally:
            mongod.stop()


def events(count: int, chance: random.Random) -> list[dict[str, Any]]:
    """Events of 20 projects on 100 days."""
    return [
        {
            "type": "commit",
            "timestamp": START + timedelta(days=chance.randrange(100), seconds=chance.randrange(86_400)),
            "context": {"project": f"p{chance.randrange(20)}", "user": "u1234567"},
            "extra": {"insertions": chance.randrange(500), "deletions": 3},
        }
        for _ in range(count)
    ]


def incremental() -> list[Row]:
    """A run over 2,000 new events with a million old ones, against the same with 50,000 old ones."""
    chance = random.Random(5)
    with mongod() as uri, tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder), uri, "bench_jobs", allowed_modules=[TASKS], map_job_size=10_000)
        try:
            cluster.start(2)
            with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
                sides = [_side(client, uri, cluster, name, old, chance) for name, old in _OLD.items()]
                times: list[list[float]] = [[], []]
                for number in range(ROUNDS):
                    for side in (0, 1) if number % 2 else (1, 0):
                        times[side].append(_one_increment(*sides[side], chance))
                definition = _definition()
                for run_context, _ in sides:
                    assert verify(run_context, definition).ok
        finally:
            cluster.stop()
    many, few = (statistics.median(side) * 1000 for side in times)
    return [_row("agg.incremental", many, few, "ms", "<=1.2", many / few <= 1.2)]


_OLD = {"bench_many": OLD_MANY, "bench_few": OLD_FEW}


def _definition() -> Definition:
    return Definition(name="days", task_name=f"{TASKS}.CountByDay", output="days")


def _side(
    client: MongoClient[dict[str, Any]], uri: str, cluster: Cluster, name: str, old: int, chance: random.Random
) -> tuple[RunContext, Producer]:
    store = connect(uri, name)
    producer = Producer(store)
    for _ in range(0, old, 50_000):
        producer.send(*events(50_000, chance))
    run_context = RunContext(client[name], store, cluster.engine, (TASKS,))
    full_run(run_context, _definition())
    return run_context, producer


def _one_increment(run_context: RunContext, producer: Producer, chance: random.Random) -> float:
    producer.send(*events(NEW, chance))
    began = time.perf_counter()
    outcome = refresh(run_context, _definition())
    took = time.perf_counter() - began
    assert isinstance(outcome, Outcome)
    assert outcome.counts.docs_in == NEW
    return took


@contextmanager
def running(count: int) -> Iterator[tuple[Stack, Database[dict[str, Any]]]]:
    """A stack with realtime aggregates, each with a first run behind it."""
    with mongod() as uri, tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), uri, "bench")
        try:
            stack.start_all()
            stack.shell(
                "from aggregates import services\n"
                f"for n in range({count}):\n"
                f"    task = {REALTIME!r}[n % {len(REALTIME)}] if {count} <= {len(REALTIME)} else 'CountByDay'\n"
                f"    services.define(name=f'agg{{n}}', task_name='{TASKS}.' + task, realtime=True)"
            )
            with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
                database = client["bench"]
                eventually(
                    lambda: database["agg.position"].count_documents({"shown": {"$gt": 0}}) == count, 300, "first runs"
                )
                yield stack, database
        finally:
            stack.stop()


class Load(threading.Thread):
    """Sends events at a steady rate."""

    def __init__(self, address: str, rate: int) -> None:
        super().__init__(daemon=True)
        self._address, self._rate = address, rate
        self.sent = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        client = ZarkovClient(self._address)
        chance = random.Random(1)
        sample = events(5_000, chance)
        began = time.perf_counter()
        while not self.stopping.wait(0.02):
            due = int((time.perf_counter() - began) * self._rate) - self.sent
            for start in range(0, due, 500):
                part = [sample[(self.sent + n) % 5_000] for n in range(min(500, due - start))]
                client.send(*part)
                self.sent += len(part)
        client.close()


def freshness() -> list[Row]:
    """From `event()` to the number changed in all five outputs, while 1,000 events/s arrive."""
    with running(5) as (stack, database):
        outputs = _outputs(database)
        load = Load(stack.folder.address("bson_bind_address"), RATE)
        load.start()
        client = ZarkovClient(stack.folder.address("bson_bind_address"))
        waits: list[float] = []
        deadline = time.monotonic() + FRESH_S + 3
        time.sleep(3)  # the load is to be steady before anything is measured
        while time.monotonic() < deadline:
            kind = f"marker-{len(waits)}"
            began = time.perf_counter()
            client.event(kind, {"project": kind})
            left = set(outputs)
            while left:
                left = {name for name in left if not _has(database, name, kind)}
                time.sleep(POLL_S)
            waits.append(time.perf_counter() - began)
        load.stopping.set()
        load.join()
        client.close()
        total = load.sent + len(waits)
        eventually(lambda: _total(database, "agg0") == total, what="all events counted")
        done = stack.manage("verify", "--all", check=False)
        assert done.returncode == 0, done.stdout
    median = statistics.median(waits) * 1000
    high = statistics.quantiles(waits, n=20)[-1] * 1000
    return [
        _row("agg.freshness.median", median, None, "ms", "<=500", median <= 500),
        _row("agg.freshness.p95", high, None, "ms", "<=1000", high <= 1000),
    ]


def _outputs(database: Database[dict[str, Any]]) -> list[str]:
    return [d["_id"] for d in database["agg.position"].find({"lead": {"$exists": False}})]


def _total(database: Database[dict[str, Any]], output: str) -> int:
    found = list(database[f"zagg.{output}"].aggregate([{"$group": {"_id": None, "n": {"$sum": "$value"}}}]))
    return int(found[0]["n"]) if found else 0


def _has(database: Database[dict[str, Any]], output: str, kind: str) -> bool:
    return database[f"zagg.{output}"].find_one({"_id": {"$gte": kind, "$lt": f"{kind}0"}}, {"_id": 1}) is not None


def ceiling() -> list[Row]:
    """The highest rate at which five aggregates keep up for a minute: none is more than 2 s behind at its end."""
    best = 0
    with running(5) as (stack, database):
        for rate in (2_000, 4_000, 8_000, 16_000, 32_000):
            load = Load(stack.folder.address("bson_bind_address"), rate)
            before = _through(database)
            load.start()
            time.sleep(CEILING_S)
            load.stopping.set()
            load.join()
            sent = load.sent
            try:
                eventually(lambda goal=before + sent: _through(database) >= goal, what="level")  # type: ignore[misc]
            except AssertionError:
                break
            if sent < 0.95 * rate * CEILING_S:
                break
            best = rate
    return [_row("agg.ceiling", best, None, "events/s", "", True)]


def _through(database: Database[dict[str, Any]]) -> int:
    return min((d.get("position") or 0 for d in database["agg.position"].find({"lead": {"$exists": False}})), default=0)


def _added(key: Any, values: Any) -> Any:
    return sum(values)


def merging() -> list[Row]:
    """Keys per second of a commit that merges into documents that are there, by one worker."""
    with mongod() as uri, MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        database = client["bench"]
        times = []
        for number in range(MERGE_ROUNDS + 1):
            began = time.perf_counter()
            job = CommitJob(Output("zgen.merged.1", "reduce"), _added, None, (number, number + 1))
            counts = commit(database, f"job{number}", job, ((f"key/{n:07d}", 1) for n in range(MERGE_KEYS)))
            times.append(time.perf_counter() - began)
            assert counts.written == MERGE_KEYS
        total = next(database["zgen.merged.1"].aggregate([{"$group": {"_id": None, "n": {"$sum": "$value"}}}]))["n"]
        assert total == MERGE_KEYS * (MERGE_ROUNDS + 1)
    rate = MERGE_KEYS / statistics.median(times[1:])  # the first one inserts
    return [_row("agg.merging", rate, None, "keys/s", "", True)]


def idle() -> list[Row]:
    """Measure what the aggregator uses with 100 realtime aggregates and no events."""
    with running(100) as (stack, _):
        process = psutil.Process(stack.processes["aggregator"].pid)
        time.sleep(5)  # the first runs are to be written down before anything is measured
        before = sum(process.cpu_times()[:2])
        time.sleep(IDLE_S)
        used = (sum(process.cpu_times()[:2]) - before) / IDLE_S * 100
    return [_row("agg.idle", used, None, "% of a core", "<=2", used <= 2)]


def _row(name: str, ours: float, peer: float | None, unit: str, must: str, ok: bool) -> Row:
    ratio = None if peer is None else round(ours / peer, 3)
    return {"name": name, "ours": round(ours, 2), "peer": peer, "ratio": ratio, "unit": unit, "must": must, "ok": ok}


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "agg.incremental": incremental,
    "agg.freshness": freshness,
    "agg.ceiling": ceiling,
    "agg.merging": merging,
    "agg.idle": idle,
}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or BENCHMARKS:
        for row in BENCHMARKS[wanted]():
            print(json.dumps(row), flush=True)

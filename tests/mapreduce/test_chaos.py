"""Workers, executors and the router are killed and stopped through many jobs; every result equals the undisturbed one.

Each job adds its range of ids to one output, so that a value lost or added twice anywhere shows at the end.
"""

from __future__ import annotations

import collections
import contextlib
import random
import signal
import time
from typing import Any

import psutil
import pytest
from pymongo.database import Database

from mapreduce.exceptions import JobTimeoutError
from mapreduce.job.spec import COMMIT, FINALIZE, MAP, QUERY, REDUCE, JobSpec, Output, Source
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import make_events
from tests.support.mapreduce.liar import SILENT, Liar
from tests.support.waiting import eventually

T = "tests.support.mapreduce.tasks:"
Data = Database[dict[str, Any]]
PHASES = (QUERY, MAP, REDUCE, FINALIZE, COMMIT)
PER_JOB = 400


class Chaos:
    """Strike once in each job, in the phase that was hit least."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.random = random.Random(seed)
        self.hits: collections.Counter[str] = collections.Counter()

    def strike(self, job_id: str) -> None:
        wanted = min(PHASES, key=lambda phase: (self.hits[phase], self.random.random()))
        state = eventually(lambda: self._reached(job_id, wanted), what=f"phase {wanted} of {job_id}")
        if state != wanted:
            return  # it was over before we saw it: the next job tries again
        victim = self.random.choice(["executor", "executor", "host", "router"])
        stop = self.random.random() < 0.4
        self.hits[wanted] += 1
        if victim == "router":
            self._restart_router()
        elif stop:
            self._stop_for_a_while(victim)
        else:
            self._kill(victim)

    def _reached(self, job_id: str, wanted: str) -> str | None:
        state = self.cluster.engine.status(job_id).state
        order = [*PHASES, "complete"]
        return state if state in order and order.index(state) >= order.index(wanted) else None

    def _restart_router(self) -> None:
        assert self.cluster.router is not None
        self.cluster.kill(self.cluster.router)
        self.cluster.start_router()

    def _target(self, victim: str) -> psutil.Process | None:
        worker = self.random.choice(self.cluster.workers)
        if victim == "host":
            return psutil.Process(worker.pid)
        executors = self.cluster.executors(worker)
        return self.random.choice(executors) if executors else None

    def _kill(self, victim: str) -> None:
        if victim == "host":
            self.cluster.kill(self.random.choice(self.cluster.workers))
            self.cluster.start_worker()
        elif (target := self._target(victim)) is not None:
            target.send_signal(signal.SIGKILL)

    def _stop_for_a_while(self, victim: str) -> None:
        target = self._target(victim)
        if target is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            target.suspend()
            time.sleep(self.random.choice([0.2, 1.0, 4.0]))
            target.resume()


def run(cluster: Cluster, database: Data, jobs: int, seed: int) -> collections.Counter[str]:
    events = make_events(jobs * PER_JOB)
    database["event.1"].insert_many(events)
    cluster.values["map_job_size"] = 50
    cluster.start(2)
    chaos = Chaos(cluster, seed)
    for number in range(jobs):
        low, high = number * PER_JOB, (number + 1) * PER_JOB
        spec = JobSpec(
            database=database.name,
            # Many empty inputs make planning take long enough to be hit.
            sources=(Source(("event.1", *(f"empty.{n}" for n in range(60))), T + "slow_types"),),
            outputs={"": Output("zagg.x", "reduce")},
            reduce_name=T + "add_slowly" if number % 5 == 0 else T + "add",
            finalize_name=T + "slow_copy",
            id_min=low,
            id_max=high,
            stamp=(low, high),
        )
        cluster.engine.submit(spec)
        chaos.strike(spec.job_id)
        try:
            status = cluster.engine.wait(spec.job_id, 200)
        except JobTimeoutError as error:
            raise AssertionError((seed, number, cluster.engine.config()["workers"], cluster.log()[-8_000:])) from error
        assert status.state == "complete", (seed, number, status)
    expected = collections.Counter(f"{event['type']}{event['_id'] % 400}" for event in events)
    found = {document["_id"]: document["value"] for document in database["zagg.x"].find()}
    assert found == expected, (seed, chaos.hits)
    print("hits by phase:", dict(chaos.hits))
    return chaos.hits


@pytest.mark.timeout(600)
def test_a_short_round_of_chaos(cluster: Cluster, database: Data) -> None:
    cluster.values["spare_processes"] = random.randrange(2)
    run(cluster, database, jobs=8, seed=random.randrange(10**6))


@pytest.mark.timeout(900)
def test_a_short_round_of_chaos_beside_workers_that_cannot_work(cluster: Cluster, database: Data) -> None:
    """One worker has no MongoDB, one only sends heartbeats, and the healthy ones are killed and stopped as ever."""
    with Liar(cluster.values["worker_bind"], SILENT, slots=1):
        cut_off = cluster.start_worker(mongo_uri="mongodb://127.0.0.1:1/")
        cluster.workers.remove(cut_off)  # it is not killed by chance
        try:
            run(cluster, database, jobs=4, seed=random.randrange(10**6))
        finally:
            cluster.workers.append(cut_off)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("spares", [0, 1])
def test_fifty_jobs_of_chaos_hit_every_phase(cluster: Cluster, database: Data, spares: int) -> None:
    cluster.values["spare_processes"] = spares
    hits = run(cluster, database, jobs=60, seed=random.randrange(10**6))
    assert sum(hits.values()) >= 50, hits
    assert all(hits[phase] for phase in PHASES), f"a phase was never hit: {dict(hits)}"

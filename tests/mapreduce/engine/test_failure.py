"""Failures of real processes: workers, executors and the router are killed, stopped, cut off or slow."""

from __future__ import annotations

import collections
import datetime
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mapreduce.exceptions import JobTimeoutError
from mapreduce.job.spec import JobSpec, Output, Source
from mapreduce.scheduler.worker_state import HEARTBEAT_S, LOST_AFTER_S
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import Data, Events, T, gated, job, start_gated, types, values
from tests.support.waiting import eventually

pytestmark = pytest.mark.early


def busy_worker(cluster: Cluster) -> subprocess.Popen[bytes]:
    """Return a worker that is working on a step."""

    def find() -> subprocess.Popen[bytes] | None:
        busy = [w["name"] for w in cluster.engine.config()["workers"] if w["running"]]
        return next((w for w in cluster.workers if busy and busy[0].endswith(f":{w.pid}")), None)

    found: subprocess.Popen[bytes] = eventually(find, what="a busy worker")
    return found


def busy_executor(cluster: Cluster) -> psutil.Process:
    """Return an executor that is working on a step; an idle one has no connections yet."""
    executors = cluster.executors(busy_worker(cluster))
    return max(executors, key=lambda process: len(process.net_connections()))


@pytest.mark.parametrize("victim", ["worker", "executor"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("phase", ["map", "finalize"])
def test_a_killed_or_stopped_worker_costs_time_but_no_results(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path, victim: str, number: signal.Signals, phase: str
) -> None:
    cluster.start(2)
    gate = tmp_path / "gate"
    spec = start_gated(cluster, database, gate, in_reduce=phase == "finalize", split_limit_s=2.0)
    worker = busy_worker(cluster)
    target = psutil.Process(worker.pid) if victim == "worker" else busy_executor(cluster)
    target.send_signal(number)
    gate.unlink()
    status = cluster.engine.wait(spec.job_id, 200)
    assert status.state == "complete", status
    assert values(database) == types(events)
    if number == signal.SIGSTOP and victim == "worker":
        target.send_signal(signal.SIGCONT)  # what it reports late changes nothing
        eventually(lambda: cluster.idle() == 2, what="the stopped worker is back")
        assert values(database) == types(events)


def test_a_function_that_blocks_all_threads_delays_no_heartbeat(cluster: Cluster) -> None:
    cluster.start(1)
    (worker,) = cluster.engine.config()["workers"]
    cluster.engine.submit_call(T + "hold_interpreter", [600.0], job_id="held")
    beats: list[float] = []  # when the router heard from the worker, which runs only this function

    def many_beats() -> bool:
        asked_s = time.monotonic()
        found = next(iter(cluster.engine.config()["workers"]), None)
        if found is None:  # given up, because the machine was too busy to run it; its beats do not count
            beats.clear()
            return False
        assert found["worker_id"] == worker["worker_id"]
        seen_s = asked_s - found["seen_s_ago"]
        if found["running"] == 1 and (not beats or seen_s > beats[-1] + HEARTBEAT_S / 2):
            beats.append(seen_s)
        return len(beats) > LOST_AFTER_S / HEARTBEAT_S

    eventually(many_beats, what="heartbeats for longer than it takes to lose a worker")
    assert cluster.engine.cancel("held").state == "cancelled"
    eventually(lambda: cluster.idle() == 1, what="another executor is ready")


def test_map_output_lost_with_its_worker_is_recomputed(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path
) -> None:
    """Output too big for messages stays with its worker, which is killed between map and reduce."""
    cluster.start(2)
    gate = tmp_path / "gate"
    spec = start_gated(cluster, database, gate, in_reduce=True, sources=(Source(("event.1", "event.2"), T + "wide"),))
    cluster.kill(cluster.workers[0])
    gate.unlink()
    assert cluster.engine.wait(spec.job_id, 200).state == "complete"
    expected = collections.Counter(f"{event['type']}{'.' * 4_000}{event['_id'] % 100}" for event in events)
    assert values(database) == expected


def test_big_map_output_is_fetched_from_the_other_worker(cluster: Cluster, database: Data, events: Events) -> None:
    cluster.values["spill_bytes"] = 400_000  # small enough that fetched runs go to a file and are merged from there
    cluster.start(2)
    sources = (Source(("event.1", "event.2"), T + "wide"),)
    status = cluster.engine.run(job(database, sources=sources, reduce_count=3), 200)
    expected = collections.Counter(f"{event['type']}{'.' * 4_000}{event['_id'] % 100}" for event in events)
    assert values(database) == expected
    assert status.progress["bytes_shuffled"] > 4_000_000


def restart_router(cluster: Cluster) -> None:
    assert cluster.router is not None
    cluster.kill(cluster.router)
    cluster.start_router()


def half_gated(database: Data, log: Path, gate: Path, last: int, **changes: Any) -> JobSpec:
    """Return a job whose steps wait at a gate, which is closed, for documents with ids above `last`."""
    gate.touch()
    params = {"log": str(log), "gate": str(gate), "last": last}
    return job(database, sources=(Source(("event.1",), T + "Half.map"),), params=params, **changes)


def prove_both_workers(cluster: Cluster, database: Data, folder: Path) -> None:
    """Let each worker do a step; else one of which nothing is known may have begun a step that another one has done."""
    log, gate = folder / "first-log", folder / "first-gate"
    outputs = {"": Output("zagg.first", "reduce")}
    spec = half_gated(database, log, gate, 0, outputs=outputs, map_job_size=20)
    cluster.engine.submit(spec)
    eventually(lambda: log.exists() and len(log.read_text().split()) >= 2, what="both workers have begun")
    gate.unlink()
    assert cluster.engine.wait(spec.job_id, 200).state == "complete"


def test_a_restarted_router_continues_with_the_remaining_splits(
    cluster: Cluster, database: Data, tmp_path: Path
) -> None:
    """Half of the splits are done; both workers wait in the other half until the new router knows of the first."""
    cluster.start(2)
    database["event.1"].insert_many([{"_id": n, "type": "x"} for n in range(1, 41)])
    prove_both_workers(cluster, database, tmp_path)
    log, gate = tmp_path / "log", tmp_path / "gate"
    spec = half_gated(database, log, gate, 20, map_job_size=1)
    cluster.engine.submit(spec)
    eventually(lambda: cluster.engine.status(spec.job_id).progress["splits_done"] == 20, what="half are done")

    def mapped() -> list[int]:
        return [int(line) for line in log.read_text().splitlines()]

    eventually(lambda: sum(number > 20 for number in mapped()) >= 2, what="both workers wait")
    begun = len(mapped())
    restarted = datetime.datetime.now(datetime.UTC)
    restart_router(cluster)

    def recorded() -> bool:
        """Return whether the new router has recorded the finished splits; nobody asks it for the job."""
        found = database["zmr.job"].find_one({"_id": spec.job_id, "updated": {"$gt": restarted}})
        return found is not None and found["progress"]["splits_done"] == 20

    eventually(recorded, what="the workers have reported to the new router what they hold")
    gate.unlink()
    eventually(lambda: values(database) == {"x": 40}, what="the job is finished, though nobody asks for it")
    assert set(mapped()) == set(range(1, 41))
    assert min(mapped()[begun:]) > 20, "finished splits are not mapped again"
    assert cluster.engine.wait(spec.job_id, 200).state == "complete"
    assert values(database) == {"x": 40}


def test_a_router_killed_while_results_are_written_finishes_the_job(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path
) -> None:
    cluster.start(2)
    gate = tmp_path / "gate"
    spec = start_gated(cluster, database, gate, in_reduce=True)
    restart_router(cluster)
    gate.unlink()
    assert cluster.engine.wait(spec.job_id, 200).state == "complete"
    assert values(database) == types(events)


def test_a_waiting_client_survives_a_restart_of_the_router_on_other_ports(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path
) -> None:
    cluster.start(1)
    gate = tmp_path / "gate"
    spec = gated(database, gate)
    cluster.engine.submit(spec)
    assert cluster.router is not None
    cluster.kill(cluster.router)
    with pytest.raises(JobTimeoutError):
        cluster.values.update(req_bind="tcp://127.0.0.1:0", worker_bind="tcp://127.0.0.1:0")
        cluster.start_router()
        cluster.engine.wait(spec.job_id, 6)
    gate.unlink()
    assert cluster.engine.wait(spec.job_id, 200).state == "complete"
    assert values(database) == types(events)


def test_a_map_that_never_returns_ends_the_job_in_an_error_that_names_the_split(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path
) -> None:
    cluster.start(2)
    spec = gated(database, tmp_path / "gate", split_limit_s=0.3)
    status = cluster.engine.wait(cluster.engine.submit(spec), 200)
    assert status.error is not None
    assert (status.state, status.error["code"]) == ("error", "worker_failed")
    assert "ids above 0 to 100" in status.error["message"]
    assert cluster.engine.run(job(database, id_max=4_000), 200).state == "complete"  # the workers still work


@pytest.mark.parametrize("seconds", [0.05, pytest.param(20.0, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_hung_executor_delays_a_job_by_at_most_three_typical_splits(
    cluster: Cluster, database: Data, seconds: float, workers: int
) -> None:
    """The only worker uses its spare executor; otherwise another worker helps."""
    cluster.values["spare_processes"] = 1
    cluster.start(workers)
    splits = 40 if seconds < 1 else 4
    database["event.1"].insert_many([{"_id": n, "type": "x"} for n in range(1, splits + 1)])
    seen = []
    for _ in range(5):
        took, left, typical = hang(cluster, sleepy(database, seconds), splits, seconds)
        assert values(database) == {"x": splits}
        # One worker does the rest, and the split that hung is repeated within the time of three typical ones.
        if left > 0 and took < (left + 3) * typical + 0.5:
            return
        seen.append((took, left, typical))  # the machine has become slower meanwhile
        cluster.ready(workers)
    raise AssertionError(seen)


def hang(cluster: Cluster, spec: JobSpec, splits: int, seconds: float) -> tuple[float, int, float]:
    """Stop an executor during a job; return the seconds to its end, the splits left, and the seconds of one split."""
    done = min(4, splits // 2)
    begun = time.monotonic()
    cluster.engine.submit(spec)
    eventually(lambda: cluster.engine.status(spec.job_id).progress.get("splits_done", 0) >= done, what="splits done")
    typical = max(seconds, (time.monotonic() - begun) / done)  # on a busy machine everything takes longer
    busy_executor(cluster).suspend()
    stopped = time.monotonic()
    left = splits - cluster.engine.status(spec.job_id).progress["splits_done"]
    status = cluster.engine.wait(spec.job_id, 200)
    assert status.state == "complete"
    return time.monotonic() - stopped, left, typical


def test_a_small_job_that_hangs_on_the_only_worker_uses_the_durations_of_earlier_jobs(
    cluster: Cluster, database: Data, tmp_path: Path
) -> None:
    """Its only step has no other durations to go by: without the earlier jobs it would be given a minute."""
    cluster.values["spare_processes"] = 1
    cluster.start(1)
    database["event.1"].insert_many([{"_id": n, "type": "x"} for n in range(1, 4)])
    for last in (1, 2):
        assert cluster.engine.run(sleepy(database, 0.2, last), 200).state == "complete"
    spec = sleepy(database, 0.2, 3)
    cluster.engine.submit(spec)
    eventually(lambda: any(worker["running"] for worker in cluster.engine.config()["workers"]), what="a running step")
    busy_executor(cluster).suspend()
    began = time.monotonic()
    status = cluster.engine.wait(spec.job_id, 200)
    assert time.monotonic() - began < 50, "it was given a minute"
    assert status.state == "complete"
    assert status.progress["splits"] == 1
    assert values(database) == {"x": 3}


def sleepy(database: Data, seconds: float, last: int | None = None) -> JobSpec:
    """Return a job with one document per split; with `last`, a small job that adds only this document."""
    only = {} if last is None else {"id_min": last - 1, "id_max": last, "map_job_size": 10}
    return job(
        database,
        "Sleeper.map",
        **{
            "sources": (Source(("event.1",), T + "Sleeper.map"),),
            "params": {"seconds": seconds},
            "map_job_size": 1,
            **only,
        },
    )


def test_cancel_frees_the_workers_and_leaves_the_output_alone(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path
) -> None:
    cluster.start(1)
    gate = tmp_path / "gate"
    spec = start_gated(cluster, database, gate)
    assert cluster.engine.cancel(spec.job_id).state == "cancelled"
    assert cluster.engine.status(spec.job_id).state == "cancelled"
    assert cluster.engine.run(job(database), 200).state == "complete"  # the gate is still there
    assert values(database) == types(events)
    assert cluster.engine.cancel(spec.job_id).state == "cancelled"


def test_unpublished_results_are_removed_with_their_job(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path
) -> None:
    cluster.start(1)
    gate = tmp_path / "gate"
    output = {"": Output("zagg.x", "replace")}
    spec = start_gated(cluster, database, gate, in_reduce=True, outputs=output)

    def unpublished() -> list[str]:
        return database.list_collection_names(filter={"name": {"$regex": r"^zmr\.new\."}})

    assert len(unpublished()) == 1
    database.create_collection("zmr.new.someone-else.zagg.x")  # of an engine that keeps no records
    cluster.engine.cancel(spec.job_id)
    eventually(
        lambda: unpublished() == ["zmr.new.someone-else.zagg.x"], what="the results of the cancelled job are gone"
    )
    database.create_collection(f"zmr.new.{spec.job_id}.zagg.x")  # written by a late worker
    restart_router(cluster)
    eventually(lambda: unpublished() == ["zmr.new.someone-else.zagg.x"], what="a new router removes what was left")


def test_jobs_wait_for_a_worker_that_starts_later(cluster: Cluster, database: Data, events: Events) -> None:
    cluster.start(0)
    spec = job(database)
    cluster.engine.submit(spec)
    cluster.start_worker()
    assert cluster.engine.wait(spec.job_id, 200).state == "complete"
    assert values(database) == types(events)


def test_a_small_job_is_not_held_up_by_a_big_one(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path
) -> None:
    cluster.start(2)
    big = start_gated(cluster, database, tmp_path / "gate", outputs={"": Output("zagg.big", "reduce")})
    assert cluster.engine.run(job(database), 200).state == "complete"
    cluster.engine.cancel(big.job_id)

"""The executors of a worker: replaced, reloading changed code, and ended with their files. Real processes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from mapreduce.job.spec import Output, Source
from mapreduce.wire import message
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import Data, Events, T, job, start_gated, values
from tests.support.waiting import eventually


def test_an_executor_that_uses_too_much_memory_is_replaced(cluster: Cluster) -> None:
    cluster.values.update(worker_memory_bytes=120 * 2**20)
    cluster.start(1)
    small = cluster.engine.call(T + "grow", [1], timeout_s=200)
    assert cluster.engine.call(T + "grow", [100 * 2**20], timeout_s=200) == small
    assert cluster.engine.call(T + "grow", [1], timeout_s=200) != small


def test_an_executor_is_replaced_after_a_number_of_steps(cluster: Cluster) -> None:
    cluster.values.update(steps_per_process=2)
    cluster.start(1)
    found = [cluster.engine.call(T + "grow", [1], timeout_s=200) for _ in range(6)]
    assert found[0] == found[1] != found[2] == found[3] != found[4]


def test_changed_task_code_runs_without_a_restart(
    cluster: Cluster, database: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "zarkov_edited_tasks.py"
    module.write_text("def answer(): return 1\n")
    monkeypatch.setenv("ZARKOV_TEST_PATH", str(tmp_path))
    cluster.values["allowed_modules"] = ["zarkov_edited_tasks"]
    cluster.start(1)
    assert cluster.engine.call("zarkov_edited_tasks:answer", timeout_s=200) == 1
    module.write_text("def answer(): return 22\n")
    assert cluster.engine.call("zarkov_edited_tasks:answer", timeout_s=200) == 22


def test_a_changed_module_that_tasks_use_runs_without_a_restart(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, helper = tmp_path / "zarkov_edited_tasks.py", tmp_path / "zarkov_edited_helper.py"
    helper.write_text("W = 1\n")
    module.write_text(
        "from zarkov_edited_helper import W\n"
        "def count(events):\n    for event in events:\n        yield 'k', W\n"
        "def add(key, values):\n    return sum(values)\n"
    )
    monkeypatch.setenv("ZARKOV_TEST_PATH", str(tmp_path))
    cluster.values["allowed_modules"] = ["zarkov_edited_tasks"]
    cluster.start(1)
    for weight in (1, 1000):
        helper.write_text(f"W = {weight}\n")
        spec = job(
            database,
            sources=(Source(("event.1", "event.2"), "zarkov_edited_tasks:count"),),
            reduce_name="zarkov_edited_tasks:add",
            outputs={"": Output("zagg.x", "replace")},
            code={"zarkov_edited_helper": hashlib.sha256(helper.read_bytes()).hexdigest()},
        )
        status = cluster.engine.wait(cluster.engine.submit(spec), 200)
        assert status.state == "complete", status.error
        assert values(database) == {"k": weight * len(events)}


def test_executors_of_a_killed_worker_end_even_if_they_are_stopped(cluster: Cluster) -> None:
    cluster.values["processes_per_worker"] = 2
    cluster.start(1)
    executors = cluster.executors(cluster.workers[0])
    assert len(executors) == 2
    executors[0].suspend()
    cluster.kill(cluster.workers[0])
    eventually(lambda: not any(executor.is_running() for executor in executors), what="executors are gone")


def test_a_worker_that_is_asked_to_stop_ends_its_executors_and_removes_its_files(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path
) -> None:
    cluster.start(1)
    gate = tmp_path / "gate"
    spec = start_gated(cluster, database, gate)
    worker = cluster.workers[0]
    executors = cluster.executors(worker)
    worker.terminate()
    assert worker.wait(60) == 0
    assert not any(executor.is_running() for executor in executors)
    assert list(Path(cluster.values["job_root"]).glob("worker-*")) == []
    cluster.workers.remove(worker)
    cluster.start_worker()
    gate.unlink()
    assert cluster.engine.wait(spec.job_id, 200).state == "complete"


def test_files_of_a_killed_worker_are_removed_by_the_next_one(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = Path(tempfile.mkdtemp(dir="/tmp"))  # short, because addresses of sockets are
    monkeypatch.setenv("TMPDIR", str(sockets))
    cluster.start(1)
    root = Path(cluster.values["job_root"])

    def folders() -> set[Path]:
        return {*root.glob("worker-*"), *sockets.glob("zmr-*")}

    old = folders()
    assert len(old) == 2
    cluster.kill(cluster.workers[0])
    cluster.start_worker()
    eventually(
        lambda: len(folders() - old) == 2 and not old & folders(),
        what="the old folders are gone, the new ones are there",
    )
    cluster.workers[0].terminate()
    eventually(lambda: not folders(), what="a worker that ends removes its own")
    shutil.rmtree(sockets)


def test_a_worker_of_another_version_is_refused_with_a_message(cluster: Cluster) -> None:
    cluster.start_router()
    os.environ["ZARKOV_TEST_PROTOCOL"] = "999"
    try:
        worker = cluster.start_worker()
        assert worker.wait(60) != 0
    finally:
        del os.environ["ZARKOV_TEST_PROTOCOL"]
    cluster.workers.remove(worker)
    assert f"protocol 999 (router: {message.PROTOCOL})" in cluster.log()
    assert cluster.engine.config()["workers"] == []

"""The state of the engine, as `/metrics` and the jobs page show it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from pymongo.database import Database

from mapreduce.engine.engine_status import engine_summary, list_jobs
from mapreduce.job.spec import RUNNING_STATES, JobStatus, Output
from mapreduce.router.status_report import AT_LEAST_S, EVERY_S, StatusReport
from mapreduce.scheduler.worker_health import BACKING_OFF, WORKING, HealthTracker
from mapreduce.scheduler.worker_state import WorkerState
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import job, start_gated
from tests.support.waiting import eventually

Data = Database[dict[str, Any]]
Events = list[dict[str, Any]]


def test_a_database_without_router_says_so(database: Data) -> None:
    found = engine_summary(database)
    assert (found.router, found.router_quiet_s, found.workers, found.oldest_s) == (None, None, (), None)
    assert found.jobs == dict.fromkeys(RUNNING_STATES, 0)
    assert list_jobs(database) == []


def test_the_summary_covers_a_running_job_its_workers_and_ended_jobs(
    cluster: Cluster, database: Data, events: Events, tmp_path: Path
) -> None:
    cluster.start(2)
    assert cluster.engine.run(job(database, id_max=100), 200).state == "complete"
    spec = start_gated(cluster, database, tmp_path / "gate", outputs={"": Output("zagg.y", "reduce")}, id_max=2_000)

    def written() -> Any:
        """Return the summary once the router has written that the first job has ended and the second is running."""
        summary = engine_summary(database)
        under_way = summary.jobs["map"] == 1 and summary.splits == 20 and summary.busy
        return under_way and summary.ended["complete"] == 1 and summary

    found = eventually(written, what="the summary")
    assert found.router is not None
    assert cluster.router is not None
    assert found.router.endswith(f":{cluster.router.pid}")
    assert (len(found.workers), found.slots) == (2, 2)
    assert (found.splits_done < 20, found.ended["complete"], found.docs_in) == (True, 1, 99)
    assert found.oldest_s is not None
    assert 0 <= found.oldest_s < 300
    listed = list_jobs(database)
    assert listed[0].job_id == spec.job_id
    assert listed[0].running
    assert listed[0].functions[0].endswith(":Forever.map")
    assert listed[0].outputs == ("zagg.y",)
    assert [item.state for item in list_jobs(database, states=["complete"])] == ["complete"]
    assert cluster.engine.cancel(listed[0].job_id).state == "cancelled"
    eventually(lambda: engine_summary(database).ended["cancelled"] == 1, what="the cancelled job is counted")
    assert not list_jobs(database, job_id=spec.job_id)[0].running


def test_a_router_that_has_not_written_for_a_while_does_not_count_as_alive(database: Data) -> None:
    database["zmr.router"].insert_one({"_id": "router", "name": "h:1", "workers": [], "totals": {}})
    database["zmr.router"].update_one({}, [{"$set": {"seen": {"$subtract": ["$$NOW", 20_000]}}}])
    found = engine_summary(database)
    assert found.router is None
    assert found.router_quiet_s is not None and 20 <= found.router_quiet_s < 120


def test_the_router_writes_changes_every_second_and_a_sign_of_life_every_five() -> None:
    live = StatusReport("h:1")
    worker = WorkerState("w", "h:2", 2, "", 0.0, idle=2)
    health = HealthTracker()
    health.join("w", "h:2")
    assert live.due([worker], health, 0.0) is not None
    worker.idle = 1
    assert live.due([worker], health, EVERY_S / 2) is None
    found = live.due([worker], health, EVERY_S)
    assert found is not None
    assert found["workers"] == [{"name": "h:2", "slots": 2, "busy": 1}]
    assert live.due([worker], health, 3.0) is None
    live.ended(JobStatus("j", "error", progress={"docs_in": 7}))
    found = live.due([worker], health, 3.0)
    assert found is not None
    assert (found["totals"]["error"], found["totals"]["docs_in"]) == (1, 7)
    assert live.due([worker], health, 3.0 + AT_LEAST_S) is not None


def test_the_status_of_a_worker_that_fails_says_why_since_when_and_when_it_is_tried_again(database: Data) -> None:
    began = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    live, health = StatusReport("h:1", began), HealthTracker()
    health.join("w", "h:2")
    for at in (10.0, 20.0):
        health.failed("w", "store_unavailable: no servers", at, at)
    found = live.due([WorkerState("w", "h:2", 2, "", 0.0, idle=2)], health, 20.0)
    assert found is not None
    database["zmr.router"].insert_one({"_id": "router", **found})
    database["zmr.router"].update_one({}, [{"$set": {"seen": "$$NOW"}}])
    (worker,) = engine_summary(database).in_state(BACKING_OFF)
    assert (worker.failures, worker.reason) == (2, "store_unavailable: no servers")
    assert worker.since == began + datetime.timedelta(seconds=10)
    assert worker.retry == began + datetime.timedelta(seconds=21)


def test_the_router_reports_the_health_of_its_workers(cluster: Cluster, database: Data, events: Events) -> None:
    """The only worker cannot reach MongoDB, but its router can."""
    cluster.start_router()
    cluster.start_worker(mongo_uri="mongodb://127.0.0.1:1/")
    cluster.ready(1)
    assert [worker["state"] for worker in cluster.engine.config()["workers"]] == [WORKING]
    cluster.engine.submit(job(database))
    (worker,) = eventually(lambda: engine_summary(database).in_state(BACKING_OFF), what="the worker backs off")
    assert worker.reason.startswith("store_unavailable: MongoDB does not answer")
    assert worker.since is not None and worker.retry is not None
    (shown,) = cluster.engine.config()["workers"]
    assert shown["reason"] == worker.reason
    eventually(lambda: cluster.engine.config()["workers"][0]["failing_s"] > 0, what="the rounded time grows")

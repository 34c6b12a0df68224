"""Kill router, workers, mongod or Celery while a run waits at a failpoint: the same or the next run completes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aggregates.run import failpoint
from aggregates.run.context import RunContext
from aggregates.run.verify import verify
from ingest.store.store import connect
from tests.support.aggregates.definitions import MODULES, define
from tests.support.aggregates.event_source import NOON, Producer, event
from tests.support.aggregates.stack import Stack, crash
from tests.support.migrated_database import put_migrated_database
from tests.support.mongo import make_last, mongod_at_one_port, open_client
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY
from zarkov_site.config.home import HomeFolder

pytestmark = pytest.mark.early

DATABASE = "victims"
VICTIMS = ("router", "worker", "mongod")
INCREMENT = ("planned", "leased", "recorded", "submitted", "jobs_done", "moved")
FULL = ("generation_made", "planned", "recorded", "submitted", "jobs_done", "moved", "caught_up", "switched", "shown")
REBUILD = ("generation_made", "copied", "caught_up", "switched")
NOT_REACHED = {"claimed", "dropped"}  # a command on an aggregate that has just run reaches neither
RANGE = ("--since", "2011-07-01", "--until", "2011-07-02")

SHORT = [
    ("increment", "recorded", "mongod"),
    ("increment", "submitted", "router"),
    ("full", "jobs_done", "worker"),
    ("full", "caught_up", "mongod"),
]
ALL = [
    (mode, point, victim)
    for mode, points in (("increment", INCREMENT), ("full", FULL), ("rebuild", REBUILD))
    for point in points
    for victim in VICTIMS
]


class Service:
    """A mongod, router and worker for the module, and an aggregate."""

    def __init__(self, folder: Path) -> None:
        self.mongod = mongod_at_one_port(HomeFolder(folder / "mongo"))
        self.stack = Stack(folder / "stack", "", DATABASE)
        self.stack.environment.pop("ZARKOV_MONGO_URI")
        self.stack.folder.write(self.stack.folder.mongo / "uri", self.mongod.start())
        put_migrated_database(self.stack.folder)
        self.stack.start("router")
        self.stack.start("worker")
        self.stack.shell(
            "from aggregates import services\n"
            "services.define(name='days', task_name='tests.support.aggregates.tasks.CountByDay')"
        )
        self.send(5)
        self.stack.manage("aggregate", "days")

    def send(self, count: int) -> int:
        """Store events without an ingester; return the id of the last one."""
        store = connect(self.stack.folder.mongo_uri(), DATABASE)
        try:
            return Producer(store).send(*(event("a", NOON + timedelta(hours=7 * n)) for n in range(count)))
        finally:
            store.connection.close()

    def at(self, point: str, *command: str) -> subprocess.Popen[str]:
        """Start a command and return it once it waits at `point`."""
        arguments = [sys.executable, "-m", "tests.support.aggregates.command_stopped_at_failpoint", point, *command]
        return subprocess.Popen(
            arguments,
            cwd=REPOSITORY,
            env=self.stack.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def check(self, through: int) -> None:
        """Assert that the output is correct and complete."""
        uri = self.stack.folder.mongo_uri()
        store = connect(uri, DATABASE)
        try:
            with open_client(uri) as client:
                comparison = verify(RunContext(client[DATABASE], store, None, MODULES), define("CountByDay", "days"))  # type: ignore[arg-type]
        finally:
            store.connection.close()
        assert comparison.ok, [d.sentence() for d in comparison.differences] or comparison.refused
        assert comparison.through == through

    def stop(self) -> None:
        self.stack.stop()
        self.mongod.stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("victims"))
    yield made
    made.stop()


def kill_at_point(service: Service, mode: str, point: str, victim: str) -> None:
    service.send(3)
    options = {"increment": (), "full": ("--full",), "rebuild": RANGE}[mode]
    process = service.at(point, "aggregate", "days", *options)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f"at {point}\n", line + process.communicate("\n", timeout=240)[0]
    crash(service.stack, service.mongod, victim)
    process.communicate("\n", timeout=240)  # it continues or fails: either way nothing may be lost or doubled
    through = service.send(2)
    service.stack.manage("aggregate", "days")
    service.check(through)


def test_every_failpoint_has_a_case():
    assert {point for _, point, _ in ALL} | NOT_REACHED == set(failpoint.POINTS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mode", "point", "victim"), SHORT)
def test_a_process_killed_at_a_failpoint_costs_only_time(mode: str, point: str, victim: str, service: Service) -> None:
    kill_at_point(service, mode, point, victim)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mode", "point", "victim"), [case for case in ALL if case not in SHORT])
def test_every_process_killed_at_every_failpoint_costs_only_time(
    mode: str, point: str, victim: str, service: Service
) -> None:
    kill_at_point(service, mode, point, victim)


LOST = {
    "with_its_record": lambda records, job: records.delete_one(job),
    "with_its_end": lambda records, job: records.update_one(
        job, {"$set": {"state": "map", "progress": {}, "result": None}, "$unset": {"ended": 1, "plan": 1}}
    ),
}


def revert_job_records(service: Service, how: str, restarted: bool) -> None:
    """Set job records back to what a mongod that crashed would have kept: they are not synced."""
    service.send(3)
    process = service.at("kill:jobs_done", "aggregate", "days")
    process.communicate(timeout=240)
    assert process.returncode == -9
    with open_client(service.stack.folder.mongo_uri()) as client:
        make_last(client[DATABASE])  # the end of the job
        records = client[DATABASE]["zmr.job"]
        newest = records.find_one({"state": "complete"}, sort=[("ended", -1)])
        assert newest is not None
        LOST[how](records, {"_id": newest["_id"]})
    if restarted:
        service.stack.kill("router")
        service.stack.start("router")
    through = service.send(2)
    service.stack.manage("aggregate", "days")
    service.check(through)
    with open_client(service.stack.folder.mongo_uri()) as client:
        again = client[DATABASE]["zmr.job"].find_one({"_id": newest["_id"]})
        assert again is not None
        assert again["state"] == "complete"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", LOST)
def test_a_job_lost_by_mongod_in_a_crash_costs_only_time(how: str, service: Service) -> None:
    revert_job_records(service, how, restarted=False)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", LOST)
def test_a_job_lost_by_mongod_and_router_costs_only_time(how: str, service: Service) -> None:
    revert_job_records(service, how, restarted=True)


QUEUED = """
from datetime import timedelta
from django.utils import timezone
from aggregates import services
from aggregates.models import AggDef, Run
aggdef = AggDef.objects.get(name="days")
"""
CELERY = ("-A", "zarkov_site", "--skip-checks", "worker", "--pool=solo", "--without-gossip", "--without-mingle")


def kill_celery_worker(service: Service, mode: str, point: str) -> None:
    service.send(3)
    worker = service.at(f"kill:{point}", "celery", *CELERY)
    uid = service.stack.shell(QUEUED + f"print(services.start_run(aggdef, {mode!r}).uid)").split()[-1]
    worker.communicate(timeout=240)
    assert worker.returncode == -9
    through = service.send(2)
    requeued = service.stack.shell(
        QUEUED
        + "Run.objects.update(created=timezone.now() - timedelta(minutes=5)); print(services.requeue_lost_runs())"
    )
    assert int(requeued.split()[-1]) >= 1  # runs left by other tests are removed with it
    other = service.at("none", "celery", *CELERY)
    try:
        ended = QUEUED + f"print(Run.objects.get(uid={uid!r}).state)"
        eventually(lambda: service.stack.shell(ended).split()[-1] == "complete", what="the run that was put back")
    finally:
        other.kill()
        other.communicate()
    service.check(through)


FAIL = QUEUED + "services.record_failure(aggdef, ValueError('the disk is full'))"


@pytest.mark.timeout(600)
def test_alerts_are_sent_while_a_celery_worker_is_in_the_middle_of_a_run(
    service: Service, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(service.stack.environment, "ZARKOV_NOTIFY__WEBHOOK", hook.url)
    through = service.send(3)
    worker = service.at("submitted", "celery", *CELERY)
    try:
        service.stack.shell(QUEUED + "services.start_run(aggdef)")
        assert worker.stdout is not None
        line = next(line for line in worker.stdout if line.startswith("at "))
        assert line == "at submitted\n"  # it waits there until released
        service.stack.shell(FAIL)
        eventually(lambda: hook.calls, what="the message")
        message, _ = hook.calls[0]
        assert (message["aggregate"], message["kind"]) == ("days", "failing")
        assert "the disk is full" in message["text"]
    finally:
        worker.kill()
        worker.communicate()
    service.stack.manage("aggregate", "days")
    service.check(through)


@pytest.mark.timeout(600)
def test_the_run_of_a_killed_celery_worker_is_queued_again_and_completes(service: Service) -> None:
    kill_celery_worker(service, "incremental", "submitted")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mode", "point"), [*(("incremental", point) for point in INCREMENT), *(("full", point) for point in FULL)]
)
def test_the_run_of_a_celery_worker_killed_at_any_failpoint_completes(mode: str, point: str, service: Service) -> None:
    kill_celery_worker(service, mode, point)

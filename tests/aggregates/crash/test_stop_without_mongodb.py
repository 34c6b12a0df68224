"""Processes that are told to stop while MongoDB does not answer end within seconds, and nothing of theirs is lost."""

from __future__ import annotations

import datetime as dt
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.client import AcknowledgedClient
from ingest.store.store import connect
from tests.support.aggregates.stack import Stack
from tests.support.durations import assert_within
from tests.support.mongo import mongod_at_one_port, open_client
from tests.support.waiting import eventually
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.stop_limit import GRACE_S, PING_S

pytestmark = pytest.mark.early

DATABASE = "away"
ENDS_WITHIN_S = 5.0
STOPPED = ("aggregator", "celery", "beat", "worker", "router", "ingester")  # as `up` stops them
RUNS = 40


class Service:
    """A mongod, and everything that uses it; Celery has runs to perform, each after the other."""

    def __init__(self, folder: Path) -> None:
        self.mongod = mongod_at_one_port(HomeFolder(folder / "mongo"))
        self.stack = Stack(folder / "stack", "", DATABASE, ZARKOV_METRICS__OWN_INTERVAL_S="0")
        self.stack.environment.pop("ZARKOV_MONGO_URI")
        self.stack.folder.write(self.stack.folder.mongo / "uri", self.mongod.start())
        self.stack.manage("initdb")
        self.stack.start_all()
        self.stack.shell(
            "from aggregates import services\n"
            "services.define(name='live', task_name='tests.support.aggregates.tasks.CountByDay', realtime=True)\n"
            "services.define(name='days', task_name='tests.support.aggregates.tasks.CountByDay')"
        )
        self.sent = 0

    def start(self) -> None:
        """Start what was stopped, and Celery."""
        for name in ("ingester", "router", "worker", "aggregator", "celery", "beat"):
            if name not in self.stack.processes:
                self.stack.start(name)

    def send(self, count: int) -> None:
        address = self.stack.folder.address("ack_bind_address")
        with AcknowledgedClient(address, connect_timeout_s=20, timeout_s=20) as client:
            at = dt.datetime(2011, 7, 1, 12, tzinfo=dt.UTC)
            receipt = client.send(
                [{"type": "a", "timestamp": at, "context": {"project": "p"}, "extra": {"n": n}} for n in range(count)]
            )
        self.sent += receipt.accepted

    def request_runs(self) -> None:
        self.stack.shell(
            "from aggregates import services\n"
            "from aggregates.models import AggDef\n"
            f"for _ in range({RUNS}): services.start_run(AggDef.objects.get(name='days'), 'full')"
        )
        eventually(lambda: "run" in self.states(), what="Celery performs runs")

    def states(self) -> str:
        """Return the states of all runs, one letter each, of running ones `run`."""
        return self.stack.shell(
            "from aggregates.models import Run\n"
            "found = Run.objects.filter(origin='api').values_list('state', flat=True)\n"
            "print(' '.join('run' if state == 'running' else state[0] for state in found))"
        )

    def stop(self) -> float:
        """Send SIGTERM to everything at once; return after how many seconds the last one has ended."""
        began = time.monotonic()
        stopped = {name: self.stack.processes.pop(name) for name in STOPPED}
        for process in stopped.values():
            process.send_signal(signal.SIGTERM)
        codes = {name: process.wait(60) for name, process in stopped.items()}
        took = time.monotonic() - began
        assert set(codes.values()) == {0}, codes
        return took

    def end(self) -> None:
        self.mongod.process.send_signal(signal.SIGCONT)
        self.stack.stop()
        self.mongod.stop()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_everything_ends_within_seconds_without_mongodb_and_nothing_is_lost(
    service: Service, how: signal.Signals
) -> None:
    def ends() -> float:
        """Return how long the last process took, in one more round."""
        service.start()
        service.send(100)
        service.request_runs()
        service.mongod.process.send_signal(how)
        took = service.stop()
        if how == signal.SIGKILL:
            service.mongod.process.wait()
            service.mongod.stop()
            service.stack.folder.write(service.stack.folder.mongo / "uri", service.mongod.start())
        else:
            service.mongod.process.send_signal(signal.SIGCONT)
        return took

    assert_within(ENDS_WITHIN_S + GRACE_S + PING_S, ends, tries=1, rounds=3)
    assert "Traceback" not in service.stack.log()
    service.start()
    store = connect(service.stack.folder.mongo_uri(), DATABASE)
    with open_client(service.stack.folder.mongo_uri()) as client:
        events = client[DATABASE]["event"]
        eventually(lambda: store.watermark().through and events.count_documents({"type": "a"}) == service.sent)
        eventually(lambda: client[DATABASE]["zagg.live"].find_one({"_id": "p/2011-07-01", "value": service.sent}))
    store.connection.close()
    eventually(lambda: not {"run", "p"} & set(service.states().split()), 120, "no run is left")

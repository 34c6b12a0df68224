"""MongoDB goes away in the middle of a job: killed and restarted, or stopped for a while."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mapreduce.job.spec import JobSpec, Output, Source
from tests.support.mapreduce.cluster import Cluster
from tests.support.mongo import mongod_at_one_port, open_client
from tests.support.waiting import eventually
from zarkov_site.config.home import HomeFolder

pytestmark = pytest.mark.early

T = "tests.support.mapreduce.tasks:"
EVENTS = 300


class Store:
    """A mongod that the test may kill or stop, and a cluster that uses it."""

    def __init__(self, folder: Path) -> None:
        self.home = HomeFolder(folder / "home")
        self.mongod = mongod_at_one_port(self.home)
        self.uri = self.mongod.start()
        self.cluster = Cluster(folder / "cluster", self.uri, "away")
        with open_client(self.uri) as client:
            client["away"]["event.1"].insert_many([{"_id": n, "type": f"t{n % 7}"} for n in range(1, EVENTS + 1)])

    def kill_and_start(self) -> None:
        self.mongod.process.kill()
        self.mongod.process.wait()
        self.mongod.stop()
        assert self.mongod.start() == self.uri

    def stop_for_a_while(self) -> None:
        process = psutil.Process(self.mongod.process.pid)
        process.send_signal(signal.SIGSTOP)
        time.sleep(4.0)  # longer than a worker may be silent
        process.send_signal(signal.SIGCONT)

    def make_unreadable(self) -> None:
        """Make the server neither primary nor secondary, as it is for a moment after each start."""
        self._order("replSetStepDown", 600, force=True)
        self._order("replSetMaintenance", 1)

    def make_readable(self) -> None:
        self._order("replSetMaintenance", 0)
        self._order("replSetFreeze", 0)

    def _order(self, *command: Any, **options: Any) -> None:
        with open_client(self.uri) as client:
            client.admin.command(*command, **options)

    def values(self) -> dict[str, int]:
        with open_client(self.uri) as client:
            return {document["_id"]: document["value"] for document in client["away"]["zagg.x"].find()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path)
    try:
        yield found
    finally:
        found.cluster.stop()
        found.mongod.stop()


def halves() -> Iterator[JobSpec]:
    """Yield two jobs, each of which adds its half of the events."""
    for low, high in ((0, EVENTS // 2), (EVENTS // 2, EVENTS)):
        yield JobSpec(
            database="away",
            sources=(Source(("event.1",), T + "Sleeper.map"),),
            outputs={"": Output("zagg.x", "reduce")},
            reduce_name=T + "add",
            params={"seconds": 0.01},
            map_job_size=10,
            id_min=low,
            id_max=high,
        )


EXPECTED = {f"t{n}": sum(number % 7 == n for number in range(1, EVENTS + 1)) for n in range(7)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("harm", [Store.kill_and_start, Store.stop_for_a_while])
def test_a_job_survives_mongodb_going_away(store: Store, harm: Any) -> None:
    cluster = store.cluster.start(2)
    for spec in halves():
        cluster.engine.submit(spec)
        eventually(
            lambda s=spec: cluster.engine.status(s.job_id).progress.get("splits_done", 0) >= 3, what="splits are done"
        )
        harm(store)
        status = cluster.engine.wait(spec.job_id, 200)
        assert status.state == "complete", status
        again = cluster.engine.wait(cluster.engine.submit(spec), 200)  # its end is recorded
        assert again.state == "complete"
    assert store.values() == EXPECTED


@pytest.mark.timeout(600)
def test_connections_made_while_the_server_was_unreadable_are_replaced(store: Store) -> None:
    """The driver treats them as connections without sessions for their whole life."""
    cluster = store.cluster.start(1)
    for number, spec in enumerate(halves()):
        cluster.engine.submit(spec)
        if number == 0:
            eventually(
                lambda s=spec: cluster.engine.status(s.job_id).progress.get("splits_done", 0) >= 3,
                what="splits are done",
            )
            store.make_unreadable()

            def was_met(job_id: str = spec.job_id) -> bool:
                failure = cluster.engine.status(job_id).progress.get("last_failure")
                return "Sessions are not supported" in str(failure)

            eventually(was_met, what="a step meets such a connection")
            store.make_readable()
        status = cluster.engine.wait(spec.job_id, 200)
        assert status.state == "complete", status
    assert store.values() == EXPECTED

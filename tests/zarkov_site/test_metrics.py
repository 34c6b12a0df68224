"""Measurements of many threads and processes become exact sums on a page, although a backend is killed meanwhile."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from pymongo.database import Database

from tests.support.system import System, running
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY

pytestmark = [pytest.mark.timeout(300), pytest.mark.early]
Data = Database[dict[str, Any]]
PROCESSES, THREADS = 3, 4
PROGRAM = """
import sys, threading
from ingest.metrics import Zibrato
z = Zibrato(address=sys.argv[1], interval=0.2, source="shop")

@z.time_me(name="work")
@z.count_me(name="sold", value=2)
def work():
    pass

def run(calls):
    for _ in range(calls):
        work()

for line in sys.stdin:
    threads = [threading.Thread(target=run, args=(int(line),)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(z.flush(30), flush=True)
""".replace("THREADS", str(THREADS))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("metrics") / "home"
    with running(home, "--no-sample", ZARKOV_METRICS__OWN_INTERVAL_S="1") as made:
        yield made


class Programs:
    """Processes that measure a number of calls on request."""

    def __init__(self, address: str) -> None:
        command = [sys.executable, "-c", PROGRAM, address]
        self._all = [
            subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]

    def work(self, calls: int) -> int:
        """Make `calls` in each thread of each process, flush them, and return the total number of calls."""
        for process in self._all:
            assert process.stdin is not None
            process.stdin.write(f"{calls}\n")
            process.stdin.flush()
        for process in self._all:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
        return calls * THREADS * PROCESSES

    def close(self) -> None:
        for process in self._all:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            assert process.wait(150) == 0
            process.stdout.close()


def total(system_database: Data, output: str, name: str, field: str) -> float:
    return sum(d["value"][field] for d in system_database[f"zagg.{output}"].find({"_id": {"$regex": f"^{name}/shop/"}}))


def backends(system: System) -> list[psutil.Process]:
    found = []
    for process in system.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends while it is examined
            if "runbackend" in process.cmdline():
                found.append(process)
    return found


def test_counts_are_exact_and_losses_of_a_killed_backend_are_counted(system: System, system_database: Data) -> None:
    programs = Programs(system.folder.address("metrics.publishers"))
    try:
        live = programs.work(5_000)
        eventually(lambda: total(system_database, "metric_counters", "sold", "sum") == 2 * live, what="the first sums")
        eventually(lambda: total(system_database, "metric_timers", "work", "count") == live, what="the first timers")

        (backend,) = backends(system)
        backend.suspend()
        lost = programs.work(300)
        backend.send_signal(signal.SIGKILL)
        eventually(lambda: any(p.pid != backend.pid for p in backends(system)), what="another backend")
        live += programs.work(1_000)  # waits until a backend receives again

        eventually(lambda: total(system_database, "metric_counters", "sold", "sum") == 2 * live, what="the sums")
        eventually(lambda: total(system_database, "metric_timers", "work", "count") == live, what="the timers")
        publishers = system_database["event"].distinct("extra.publisher", {"context.source": "shop"})
        assert len(publishers) == PROCESSES

        def missing() -> int:
            keys = [f"{publisher}/info" for publisher in publishers]
            found = system_database["zagg.metric_delivery"].find({"_id": {"$in": keys}})
            return sum(document["value"]["lost_measurements"] for document in found)

        eventually(lambda: missing() == 2 * lost, what="the count of losses")
        assert total(system_database, "metric_counters", "sold", "sum") == 2 * live
    finally:
        programs.close()
    ids = system_database["event"].distinct("id", {"context.source": "shop"})
    assert len(ids) == system_database["event"].count_documents({"context.source": "shop"})


def test_zarkov_measures_itself_and_the_dashboard_shows_it(system: System, system_database: Data) -> None:
    system.get("")

    def names() -> set[str]:
        return {d["_id"].rpartition("/")[0] for d in system_database["zagg.metric_timers"].find({}, {"_id": 1})}

    wanted = {
        "request.overview{method=GET,status=2xx}/web",
        "zarkov.ingester.commit/ingester",
        "zarkov.aggregator.refresh/aggregator",
    }
    eventually(lambda: names() >= wanted, what="our own timers")
    eventually(lambda: any(name.startswith("task.") and name.endswith("/celery") for name in names()), what="a task")
    assert "Timers, 95 %" in system.get("dashboards/metrics/")
    series = system.get("api/v1/series/metric_timers/?fields=p95&prefix=zarkov.ingester.commit/")
    assert '"p95"' in series


def test_runbackend_shows_the_options_of_each_backend_and_reports_mistakes(system: System) -> None:
    shown = system.manage("runbackend", "librato", "--help")
    assert "--apitoken" in shown.stdout
    done = system.manage("runbackend", "nobody")
    assert done.returncode == 1
    assert "use graphite, librato, log, statsd, zarkov" in done.stderr
    done = system.manage("runbackend", "librato")
    assert "username and apitoken are required" in done.stderr

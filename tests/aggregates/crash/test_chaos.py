"""Kill real processes under a stream of events at random and named points; every aggregate equals its recount."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.client import AcknowledgedClient
from ingest.exceptions import IngestError
from tests.support.aggregates.event_source import NOON, event
from tests.support.aggregates.stack import PAUSED, Stack, crash
from tests.support.mongo import mongod_at_one_port, open_client
from tests.support.waiting import eventually
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod

pytestmark = pytest.mark.early

DATABASE = "chaos"
AGGREGATES = {"days": "CountByDay", "both": "TwoOutputs", "mean": "Mean", "labelled": "Labelled"}
INCREMENT = ("planned", "leased", "recorded", "submitted", "jobs_done", "moved")
BUILD = ("generation_made", "planned", "recorded", "submitted", "jobs_done", "moved", "caught_up", "switched", "shown")
REBUILD = ("--since", "2011-07-01", "--until", "2011-07-02")
VICTIMS = ("aggregator", "aggregator2", "router", "worker", "ingester", "mongod", "celery")
ASK = """
from aggregates import services
from aggregates.models import AggDef
services.start_run(AggDef.objects.get(name={name!r}), {mode!r})
"""
OPEN = "from aggregates.models import Run; print(Run.objects.open().count())"


class Stream(threading.Thread):
    """Send events through the acknowledged receiver and count those that were accepted."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self.stack = stack
        self.stopping = threading.Event()
        self.accepted = 0

    def run(self) -> None:
        number = 0
        client: Any = None
        while not self.stopping.wait(0.1):  # full runs read all of them each time: an hour of events must stay small
            batch = [{**event("m", NOON, f"p{n % 7}", n=n), "id": f"chaos-{number}-{n}"} for n in range(20)]
            while not self.stopping.is_set():
                try:
                    client = client or AcknowledgedClient(self.stack.folder.address("ack_bind_address"))
                    client.send(batch)
                except Exception as error:
                    if not isinstance(error, IngestError) and getattr(error, "code", None) is None:
                        raise
                    if client is not None:
                        client.close()
                        client = None
                    continue
                self.accepted += len(batch)
                break
            number += 1
        if client is not None:
            client.close()


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[LocalMongod]:
    started = mongod_at_one_port(HomeFolder(tmp_path / "mongo"))
    yield started
    started.stop()


@pytest.fixture
def stack(tmp_path: Path, mongod: LocalMongod) -> Iterator[Stack]:
    folder = tmp_path / "stack"
    # Processes look up the address of the local mongod in their home folder, so that it may change with a restart.
    started = Stack(folder, "", DATABASE)
    started.environment.pop("ZARKOV_MONGO_URI")
    started.folder.write(started.folder.mongo / "uri", mongod.start())
    yield started
    started.stop()


class Points:
    """End runs at named points, one point after another, and count the hits."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.hits: Counter[str] = Counter()
        self._increments = itertools.cycle(INCREMENT)
        self._builds = itertools.cycle([*(("--full", point) for point in BUILD), ("rebuild", "copied")])
        self._armed: dict[str, str] = {}

    def arm(self, aggregator: str) -> None:
        """Restart a killed aggregator so that it ends at the next point of one of its incremental runs."""
        self.stack.kill(aggregator)
        self._armed[aggregator] = point = next(self._increments)
        self.stack.start(aggregator, "aggregator", prefix=(*PAUSED, f"kill:{point}"))

    def build(self, name: str) -> None:
        """Start a full run or a rebuild that ends at its next point."""
        mode, point = next(self._builds)
        command = ("aggregate", name, "--full") if mode == "--full" else ("aggregate", "days", *REBUILD)
        done = self.stack.manage(*command, check=False, prefix=(*PAUSED, f"kill:{point}"))
        self.hits[f"build {point}"] += done.returncode == -9

    def collect(self) -> None:
        """Count aggregators that have reached their point, and restart them."""
        for aggregator, point in list(self._armed.items()):
            if self.stack.processes[aggregator].poll() is not None:
                self.hits[f"increment {point}"] += 1
                self.disarm(aggregator)

    def disarm(self, aggregator: str) -> None:
        """Start an aggregator as in production."""
        self._armed.pop(aggregator, None)
        self.stack.kill(aggregator)
        self.stack.start(aggregator, "aggregator")

    def end(self) -> None:
        """Replace every aggregator by one that keeps running."""
        for aggregator in list(self._armed):
            self.disarm(aggregator)


def shown(hits: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(hits.items()))


def chaos(stack: Stack, mongod: LocalMongod, crashes: int, seed: int) -> Points:
    chance = random.Random(seed)
    hits: Counter[str] = Counter()
    points = Points(stack)
    stack.start_all()
    for part in ("celery", "beat"):
        stack.start(part)
    stack.start("aggregator2", "aggregator")
    defined = "; ".join(
        f"services.define(name={name!r}, task_name='tests.support.aggregates.tasks.{task}', realtime=True)"
        for name, task in AGGREGATES.items()
    )
    stack.shell(f"from aggregates import services; {defined}")
    stream = Stream(stack)
    stream.start()
    for number in range(crashes):
        time.sleep(chance.uniform(0.0, 1.0))  # the random moment is what is tested
        name = chance.choice(sorted(AGGREGATES))
        points.collect()
        if number % 10 == 3:
            points.build(name)
        elif number % 10 == 9:
            stack.manage("aggregate", name, "--full", check=False)
        elif number % 5 == 3:
            mode = chance.choice(["incremental", "full", "verify"])
            stack.manage("shell", "-c", ASK.format(name=name, mode=mode), check=False)
        victim = VICTIMS[number % len(VICTIMS)] if number < len(VICTIMS) else chance.choice(VICTIMS)
        hits[victim] += 1
        if victim.startswith("aggregator"):
            points.arm(victim)
        else:
            crash(stack, mongod, victim)
    points.collect()
    points.end()
    print(f"crashes with seed {seed}: {shown(hits)}; at named points: {shown(points.hits)}")
    stream.stopping.set()
    stream.join(timeout=60)
    with open_client(stack.folder.mongo_uri()) as client:
        database = client[DATABASE]

        def counted() -> int:
            return sum(d["value"] for d in database["zagg.days"].find())

        eventually(lambda: counted() >= stream.accepted > 0, what=f"{stream.accepted} events counted")
        stored = database["event"].count_documents({})
        assert counted() == stored >= stream.accepted
        assert stored == len(database["event"].distinct("id"))

    def all_equal() -> bool:
        """Verify all that have run. After so many crashes a first run can be late, or one interrupted not resumed."""
        done = stack.manage("verify", "--all", check=False)
        assert "differences from the recount" not in done.stdout, done.stdout
        print(done.stdout, done.stderr)
        return done.returncode == 0 and int(done.stdout.count("equal to the recount")) == len(AGGREGATES)

    eventually(all_equal, what="all aggregates have run and are equal to their recount")
    # Runs that killed Celery workers lost have been requeued.
    eventually(lambda: stack.shell(OPEN).split()[-1] == "0", what="runs that were asked for are over")
    return points


@pytest.mark.timeout(900)
def test_aggregates_are_correct_after_a_few_crashes(stack: Stack, mongod: LocalMongod) -> None:
    chaos(stack, mongod, crashes=8, seed=1)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_aggregates_are_correct_after_two_hundred_crashes(stack: Stack, mongod: LocalMongod) -> None:
    points = chaos(stack, mongod, crashes=200, seed=random.randrange(10**6))
    assert {point for point, count in points.hits.items() if count} == {
        *(f"increment {point}" for point in INCREMENT),
        *(f"build {point}" for point in (*BUILD, "copied")),
    }

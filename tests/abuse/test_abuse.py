"""One good producer, one reader and one realtime aggregate live beside every kind of hostile client for ten minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.abuse.good import AGGREGATE, DEFINITION, Producer, Reader, Repeated
from tests.abuse.hostile import ATTACKS
from tests.abuse.memory import MemoryWatch
from tests.abuse.targets import Targets
from tests.support.mongo import open_client
from tests.support.system import System, running
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY

MIB = 2**20
PROMISED_S = 2.0  # 95 of 100 answers to good clients come within this
# Largest resident size in MiB of each process under attack.
BOUNDS_MIB = {
    "ingester": 500, "router": 300, "worker": 200, "executor": 400, "broker": 300, "backend": 300, "web": 500,
    "aggregator": 300, "celery": 300, "beat": 200,
}  # fmt: skip


class Hostile:
    """One attack in a process of its own."""

    def __init__(self, name: str, targets: Targets) -> None:
        self.name = name
        self.steps = 0
        self._errors = TemporaryFile()  # noqa: SIM115 - read at the end
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.abuse.hostile", name],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(targets.to_text().encode() + b"\n")
        self._process.stdin.flush()
        self._counter = threading.Thread(target=self._count)
        self._counter.start()

    def _count(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            while read := os.read(output.fileno(), 1_000):
                self.steps += len(read)

    def request_end(self) -> None:
        """Let it end after its step. Return at once."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> str:
        """Wait until it has ended; return what it reported as failed, else an empty text."""
        try:
            self._process.wait(90)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._counter.join()
        with self._errors as errors:
            errors.seek(0)
            return errors.read().decode(errors="replace") if self._process.returncode else ""


@contextmanager
def attacked(targets: Targets, names: list[str]) -> Iterator[list[Hostile]]:
    """Run attacks, once each has begun; at the end assert that none found a failure of the server."""
    hostile = [Hostile(name, targets) for name in names]
    try:
        eventually(lambda: all(each.steps for each in hostile), 120, "each attack has begun")
        yield hostile
    finally:
        for each in hostile:
            each.request_end()
        failures = {each.name: text for each in hostile if (text := each.wait())}
    assert not failures, "\n".join(f"{name}: {text}" for name, text in failures.items())


@contextmanager
def worker_without_mongodb(system: System, home: Path) -> Iterator[None]:
    """Run a worker that reaches the router and not MongoDB."""
    environ = system.environ | {
        "ZARKOV_HOME": str(home),
        "ZARKOV_MONGO_URI": "mongodb://127.0.0.1:9/?replicaSet=nobody",
        "ZARKOV_ZMR__WORKER_URI": system.folder.address("zmr.worker_bind"),
    }
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "manage.py"), "runworker", "--processes", "2"],
        env=environ, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def targets_of(system: System, token: str) -> Targets:
    address = system.folder.address
    return Targets(
        system.url(), address("bson_bind_address"), address("json_bind_address"), address("ack_bind_address"),
        address("zmr.req_bind"), address("zmr.worker_bind"), address("publish_bind_address"),
        address("metrics.publishers"), address("metrics.backends"), token,
    )  # fmt: skip


def stored_twice_or_missing(mongo_uri: str, wanted: int) -> list[int]:
    """Return the numbers of good events that are not stored exactly once."""
    with open_client(mongo_uri) as client:
        found = client["zarkov"]["event"].find({"type": "good"}, {"_id": 0, "extra.n": 1})
        times: dict[int, int] = {}
        for event in found:
            times[event["extra"]["n"]] = times.get(event["extra"]["n"], 0) + 1
    return [number for number in range(wanted) if times.pop(number, 0) != 1] + list(times)


@pytest.mark.early
@pytest.mark.parametrize("seconds", [20, pytest.param(600, marks=[pytest.mark.long, pytest.mark.timeout(1_800)])])
def test_good_clients_do_not_notice_hostile_ones(
    seconds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"ZARKOV_TASK_MODULES": "tests.support.aggregates.tasks", "ZARKOV_JOURNAL_MAX_BYTES": "64 MiB"}
    with ExitStack() as stack:
        system = stack.enter_context(running(tmp_path / "home", **environ))
        made = system.manage("aggdefs", "import", "-", stdin=DEFINITION)
        assert made.returncode == 0, made.stderr
        token = system.manage("token", "shop", "--scope", "ingest").stdout.strip()
        producer = Producer(system.folder.address("ack_bind_address"))
        stack.callback(producer.close)
        reader = Reader(system.url(), producer)
        producer.send()
        eventually(lambda: reader.read() == 1, what="the first number")
        memory = MemoryWatch(system.descendants)
        stack.callback(memory.stop)
        good = {
            "sending": Repeated(producer.send, 0.05),
            "reading": Repeated(reader.read, 0.2),
            "until counted": Repeated(reader.wait_until_current, 0.5),
            "healthz": Repeated(reader.health, 0.1),
        }
        for each in good.values():
            stack.callback(each.stop)
        stack.enter_context(worker_without_mongodb(system, tmp_path / "elsewhere"))
        with attacked(targets_of(system, token), list(ATTACKS)) as hostile:
            over = time.monotonic() + seconds
            eventually(
                lambda: time.monotonic() > over or any(each.failure for each in good.values()), seconds + 60, "the end"
            )
        for each in good.values():
            each.stop()
        memory.stop()
        reader.wait_until_current()
        figures = {
            "p95_s": {name: round(each.p95_s(), 3) for name, each in good.items() if len(each.took_s) > 1},
            "largest_s": {name: round(max(each.took_s, default=0), 3) for name, each in good.items()},
            "events": producer.acknowledged,
            "steps": {each.name: each.steps for each in hostile},
            "rss_mib": {name: round(size / MIB) for name, size in sorted(memory.largest.items())},
        }
        with capsys.disabled():
            print(f"\nabuse for {seconds} s: {json.dumps(figures)}")
        failures = {name: each.failure for name, each in good.items() if each.failure}
        assert not failures, failures
        assert reader.read() == producer.acknowledged
        verified = system.manage("verify", AGGREGATE)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        mongo_uri = (system.folder.root / "mongo" / "uri").read_text().strip()
        assert stored_twice_or_missing(mongo_uri, producer.acknowledged) == []
        too_large = {name: size // MIB for name, size in memory.largest.items() if size > BOUNDS_MIB[name] * MIB}
        assert not too_large, figures
        if seconds > 60:  # a short attack on a busy machine has too few answers for a share of them
            assert all(p95 < PROMISED_S for p95 in figures["p95_s"].values()), figures

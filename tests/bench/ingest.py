"""Benchmarks of the ingester: a separate process, fed by this one, on the same mongod as the peer.

`BENCHMARKS` has each by name; called, it returns rows `{name, ours, peer, ratio, unit, must, ok}`. Alone:
`python -m tests.bench.ingest ingest.push`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import psutil
import zmq
from pymongo import MongoClient
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.store.store import Store, connect
from ingest.transport.notice import Subscription
from tests.bench.peers import insert_many
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod

EVENTS = 300_000
ROUNDS = 5
BATCH = 100
MEMORY_MIB = 200
AWAY_S = 60
IDLE_S = 10
Row = dict[str, Any]


class Bench:
    """A mongod, a database, and an ingester on them."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.database: Database[dict[str, Any]] = self.client["bench"]
        environment = os.environ | {"ZARKOV_MONGO_URI": uri, "ZARKOV_MONGO_DATABASE": "bench"}
        environment["ZARKOV_HOME"] = str(folder / "home")
        for receiver in ("BSON", "JSON", "ACK", "PUBLISH"):
            environment[f"ZARKOV_{receiver}_BIND_ADDRESS"] = "tcp://127.0.0.1:0"
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "runingest"], env=environment, stdout=subprocess.DEVNULL
        )
        recorded = folder / "home" / "run" / "addresses.json"
        while not recorded.exists():
            assert self.process.poll() is None
            time.sleep(0.05)
        self.addresses: dict[str, str] = json.loads(recorded.read_text())
        self.store: Store = connect(uri, "bench")
        self.store.prepare()
        self._notices = Subscription(self.addresses["publish_bind_address"])

    def stored(self) -> int:
        """Return the last id settled so far."""
        return self.store.watermark().through

    def wait_stored(self, through: int) -> None:
        """Return when the watermark has reached `through`, by a notice, or by asking MongoDB if none comes."""
        while True:
            found = self._notices.receive(1.0)
            if (found["through"] if found else self.stored()) >= through:
                return

    def peak_mib(self) -> float:
        """Return the ingester's largest resident size so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def push(self, messages: list[bytes]) -> None:
        """Push messages as fast as they are accepted."""
        context: zmq.Context[Any] = zmq.Context()
        with context.socket(zmq.PUSH) as socket:
            socket.connect(self.addresses["bson_bind_address"])
            for message in messages:
                socket.send(message)
            socket.close(linger=60_000)
        context.term()

    def close(self) -> None:
        """Stop the ingester."""
        self._notices.close()
        self.store.connection.close()
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


@contextmanager
def bench() -> Iterator[Bench]:
    """Yield a new one; stop and remove everything at the end."""
    with tempfile.TemporaryDirectory(prefix="zarkov-bench-") as name:
        mongod = LocalMongod(HomeFolder(Path(name)))
        running = None
        try:
            running = Bench(Path(name), mongod.start())
            yield running
        finally:
            if running:
                running.close()
            mongod.stop()


def make_events(count: int, *, ids: bool) -> list[dict[str, Any]]:
    """Return events of about 150 bytes of BSON."""
    now = dt.datetime.now(dt.UTC)
    events = [
        {
            "timestamp": now, "type": "change",
            "context": {"project": "celery", "tool": "git", "user": f"u{n:08x}"},
            "extra": {"insertions": n % 100, "note": "x"},
        }
        for n in range(count)
    ]  # fmt: skip
    return [event | {"id": uuid.uuid4().hex} for event in events] if ids else events


def push() -> list[Row]:
    """PUSH of single events, checked, journalled and committed, against a bare insert."""
    with bench() as running:
        ratios, ours, theirs = [], [], []
        for _ in range(ROUNDS):
            events = make_events(EVENTS, ids=False)
            theirs.append(EVENTS / insert_many.insert(running.database, events))
            messages = [bson.encode(event) for event in events]
            before = running.stored()
            started = time.perf_counter()
            running.push(messages)
            running.wait_stored(before + EVENTS)
            ours.append(EVENTS / (time.perf_counter() - started))
            ratios.append(ours[-1] / theirs[-1])
            _assert_equal(running, before, events)
        return [
            _row("ingest.push", statistics.median(ours), statistics.median(theirs), statistics.median(ratios),
                 "events/s", ">=1.0"),
            _memory_row("ingest.memory.push", running.peak_mib()),
        ]  # fmt: skip


def ack() -> list[Row]:
    """Acknowledged sends in batches of 100, against a bare insert with the same ids and index."""
    with bench() as running:
        ratios, ours, theirs = [], [], []
        for _ in range(ROUNDS):
            events = make_events(EVENTS // 3, ids=True)
            theirs.append(len(events) / insert_many.insert(running.database, events))
            encoded = [bson.encode(event) for event in events]
            before = running.stored()
            started = time.perf_counter()
            with AcknowledgedClient(running.addresses["ack_bind_address"], request_events=BATCH) as client:
                assert client.send(encoded).accepted == len(encoded)
            running.wait_stored(before + len(events))
            ours.append(len(events) / (time.perf_counter() - started))
            ratios.append(ours[-1] / theirs[-1])
            _assert_equal(running, before, events)
        return [
            _row("ingest.ack", statistics.median(ours), statistics.median(theirs), statistics.median(ratios),
                 "events/s", ">=0.8"),
            _memory_row("ingest.memory.ack", running.peak_mib()),
        ]  # fmt: skip


def memory() -> list[Row]:
    """Peak memory while mongod hangs for a minute under load; everything arrives afterwards."""
    with bench() as running:
        before = running.stored()
        messages = [bson.encode(event) for event in make_events(10_000, ids=False)]
        count = 0
        server = psutil.Process(int(running.client.admin.command("serverStatus")["pid"]))
        server.suspend()
        try:
            until = time.monotonic() + AWAY_S
            while time.monotonic() < until:
                if count < EVENTS:
                    running.push(messages)
                    count += len(messages)
                time.sleep(AWAY_S * len(messages) / EVENTS)
        finally:
            server.resume()
        running.wait_stored(before + count)
        return [_memory_row("ingest.memory", running.peak_mib())]


def idle() -> list[Row]:
    """CPU of an ingester that has nothing to do, in percent of a core."""
    with bench() as running:
        running.push([bson.encode(event) for event in make_events(100, ids=False)])
        running.wait_stored(100)
        process = psutil.Process(running.process.pid)
        before = sum(process.cpu_times()[:2])
        time.sleep(IDLE_S)
        used = 100 * (sum(process.cpu_times()[:2]) - before) / IDLE_S
        return [{"name": "ingest.idle", "ours": used, "peer": None, "ratio": None, "unit": "% of a core",
                 "must": "<1", "ok": used < 1}]  # fmt: skip


def _assert_equal(running: Bench, before: int, events: list[dict[str, Any]]) -> None:
    """Check that both sides hold the same documents."""
    for name, query in (("event", {"_id": {"$gt": before}}), ("peer", {})):
        stored = running.database[name].aggregate(
            [{"$match": query}, {"$group": {"_id": None, "n": {"$sum": 1}, "sum": {"$sum": "$extra.insertions"},
                                            "users": {"$addToSet": "$context.user"}}},
             {"$set": {"users": {"$size": "$users"}}}]
        ).next()  # fmt: skip
        assert (stored["n"], stored["users"]) == (len(events), len(events))
        assert stored["sum"] == sum(event["extra"]["insertions"] for event in events)


def _memory_row(name: str, peak_mib: float) -> Row:
    return {"name": name, "ours": peak_mib, "peer": None, "ratio": None, "unit": "MiB", "must": f"<{MEMORY_MIB}",
            "ok": peak_mib < MEMORY_MIB}  # fmt: skip


def _row(name: str, ours: float, peer: float, ratio: float, unit: str, must: str) -> Row:
    return {"name": name, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit, "must": must,
            "ok": ratio >= float(must.removeprefix(">="))}  # fmt: skip


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "ingest.push": push,
    "ingest.ack": ack,
    "ingest.memory": memory,
    "ingest.idle": idle,
}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or BENCHMARKS:
        for row in BENCHMARKS[wanted]():
            print(json.dumps(row))

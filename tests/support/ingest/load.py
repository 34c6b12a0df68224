"""Put load on ingesters that are killed, and prove that every event is stored once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bson
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.exceptions import DeliveryError
from ingest.journal.journal import journal_folders
from ingest.journal.record import Record, RecordKind, checksum_seed, read_events, scan
from ingest.store.ingester_report import summarize
from ingest.store.store import connect
from tests.support.ingest.killable import HALTED, PHASES, SHARED_BYTES, TARGET
from tests.support.waiting import WITHIN_S, eventually


class Victim:
    """An ingester in its own process, which can be killed in a phase."""

    def __init__(self, uri: str, database: str, folder: Path, *, inside: Sequence[str] = ()) -> None:
        self._inside = inside  # command that starts it, for example one that mounts something first
        self._arguments = [uri, database, str(folder / "journal")]
        self._folder = folder
        self.journals = folder / "journal"
        self.start()

    def start(self) -> None:
        name = uuid.uuid4().hex
        self._ready, self._phases = self._folder / f"{name}.json", self._folder / f"{name}.phases"
        self._phases.write_bytes(b"\x00" * SHARED_BYTES)
        self.process = subprocess.Popen(
            [
                *self._inside, sys.executable, "-m", "tests.support.ingest.killable", *self._arguments,
                str(self._ready), str(self._phases),
            ]
        )  # fmt: skip
        eventually(lambda: self._ready.exists() or self.process.poll() is not None)
        self.addresses = json.loads(self._ready.read_text())

    def kill_in(self, phase: str | None, within_s: float = WITHIN_S) -> set[str]:
        """Kill it at the start or end of `phase`, or at once if None; return the phases in which it died."""
        if phase is not None:
            with self._phases.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), bytes([PHASES.index(phase) + 1, random.random() < 0.5]), TARGET)
                eventually(lambda: os.pread(file.fileno(), 1, HALTED)[0], within_s, phase)
        self.kill()
        return self.phases()

    @property
    def is_targeted(self) -> bool:
        """Return whether `kill_in` has told the process in which phase to halt."""
        return self._phases.read_bytes()[TARGET] > 0

    def phases(self) -> set[str]:
        """Return the phases it is in, or was in when it died."""
        return {PHASES[i] for i, count in enumerate(self._phases.read_bytes()[: len(PHASES)]) if count}

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Load:
    """Push and send acknowledged events from two threads to the ingester at the current `addresses`."""

    def __init__(self, addresses: dict[str, str], first: int = 0) -> None:
        self.addresses = addresses
        self._first = first  # number of the first pushed event
        self.acknowledged: set[str] = set()
        self._name = uuid.uuid4().hex[:8]  # distinguishes the events of two loads
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._push), threading.Thread(target=self._send)]
        for thread in self._threads:
            thread.start()

    def _push(self) -> None:
        context: zmq.Context[Any] = zmq.Context()
        number, socket, connected_to = self._first, context.socket(zmq.PUSH), ""
        while not self._stop.is_set():
            if connected_to != (address := self.addresses["bson_bind_address"]):
                socket.close(linger=0)
                socket, connected_to = context.socket(zmq.PUSH), address
                socket.sndhwm = 100
                socket.connect(address)
            if socket.poll(50, zmq.POLLOUT):
                number += 1
                socket.send(bson.encode({"type": "pushed", "context": {"n": number}}))
                self._stop.wait(0.0005)
        socket.close(linger=0)
        context.term()

    def _send(self) -> None:
        left: list[Any] = []
        number = 0
        while not self._stop.is_set():
            if not left:
                left = [{"type": "sent", "id": f"{self._name}-{number}-{i}"} for i in range(random.randint(1, 20))]
                number += 1
            ids = [bson.decode(e)["id"] if isinstance(e, bytes) else e["id"] for e in left]
            client = AcknowledgedClient(
                self.addresses["ack_bind_address"], timeout_s=2.0, attempts=1, connect_timeout_s=0.2
            )
            try:
                assert client.send(left).accepted == len(left)
                self.acknowledged.update(ids)
                left = []
                self._stop.wait(0.001)
            except DeliveryError as error:
                left = error.data["unsent"]
                self._stop.wait(0.05)  # pause before the next attempt, so that others get the processor
            finally:
                client.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def journalled(root: Path) -> set[int]:
    """Return the numbers of the pushed events that are in journals."""
    found: set[int] = set()
    for folder in journal_folders(root):
        seed = checksum_seed(uuid.UUID(folder.name))
        for path in folder.glob("*.seg"):
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # removed meanwhile by another ingester
                continue
            for record in scan(content, seed):
                if isinstance(record, Record) and record.kind is not RecordKind.REFUSALS:
                    events = map(bson.decode, read_events(record)[0])
                    found.update(e["context"]["n"] for e in events if e["type"] == "pushed")
    return found


def prove(uri: str, database: Database[Any], load: Load, pushed: set[int]) -> None:
    stored = list(database["event"].find({}, {"type": 1, "id": 1, "context": 1}))
    sent_times = Counter(e["id"] for e in stored if e["type"] == "sent")
    pushed_times = Counter(e["context"]["n"] for e in stored if e["type"] == "pushed")
    assert load.acknowledged <= set(sent_times), "an acknowledged event is lost"
    assert pushed <= set(pushed_times), "a journalled event is lost"
    assert max(sent_times.values()) == 1
    assert max(pushed_times.values()) == 1
    store = database["ingest.store"].find_one()
    assert store is not None
    assert store["open"] == []
    assert max(e["_id"] for e in stored) < store["next"]
    connected = connect(lambda: uri, database.name)
    summary = summarize(connected)
    connected.connection.close()
    assert summary.stored == len(stored)
    assert summary.quarantined == 0

"""SIGKILL of ingesters in every phase, under load: nothing acknowledged or journalled is lost, nothing stored twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bson
import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.exceptions import DeliveryError
from ingest.journal.journal import journal_folders
from ingest.journal.record import Record, RecordKind, checksum_seed, read_events, scan
from ingest.store.block_release import revoke
from ingest.store.ingester_report import advice, summarize
from ingest.store.store import Store, connect
from tests.ingest.conftest import wait_for
from tests.ingest.killable import HALTED, PHASES, SHARED_BYTES, TARGET


class Victim:
    """An ingester in a process of its own, which can be killed in a phase."""

    def __init__(self, uri: str, database: str, folder: Path, *, inside: Sequence[str] = ()) -> None:
        self._inside = inside  # command that starts it, such as one that mounts something first
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
                *self._inside, sys.executable, "-m", "tests.ingest.killable", *self._arguments, str(self._ready),
                str(self._phases),
            ]
        )  # fmt: skip
        wait_for(lambda: self._ready.exists() or self.process.poll() is not None)
        self.addresses = json.loads(self._ready.read_text())

    def kill_in(self, phase: str | None, within_s: float = 30.0) -> set[str]:
        """Kill at the beginning or end of `phase`, or at once when None; return the phases it died in."""
        if phase is not None:
            with self._phases.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), bytes([PHASES.index(phase) + 1, random.random() < 0.5]), TARGET)
                wait_for(lambda: os.pread(file.fileno(), 1, HALTED)[0], within_s, phase)
        self.kill()
        return self.phases()

    def phases(self) -> set[str]:
        """The phases that it is in, or was in when it died."""
        return {PHASES[i] for i, count in enumerate(self._phases.read_bytes()[: len(PHASES)]) if count}

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Load:
    """Threads that push and send acknowledged events to whichever ingester is there."""

    def __init__(self, addresses: dict[str, str], first: int = 0) -> None:
        self.addresses = addresses
        self._first = first  # number of the first pushed event
        self.acknowledged: set[str] = set()
        self._name = uuid.uuid4().hex[:8]  # two of them send different events
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
                self.addresses["ack_bind_address"], timeout_s=0.5, attempts=1, connect_timeout_s=0.2
            )
            try:
                assert client.send(left).accepted == len(left)
                self.acknowledged.update(ids)
                left = []
                self._stop.wait(0.001)
            except DeliveryError as error:
                left = error.data["unsent"]
                self._stop.wait(0.05)  # who is busy or away is not asked all the time: others need the processor
            finally:
                client.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def journalled(root: Path) -> set[int]:
    """Numbers of the pushed events that lie in journals."""
    found: set[int] = set()
    for folder in journal_folders(root):
        seed = checksum_seed(uuid.UUID(folder.name))
        for path in folder.glob("*.seg"):
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # cut meanwhile by another ingester
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


@pytest.fixture
def victims(mongo_uri: str, database: Database[Any], tmp_path: Path) -> Iterator[list[Victim]]:
    started: list[Victim] = []
    yield started
    for victim in started:
        if victim.process.poll() is None:
            victim.kill()


def kill_round(uri: str, database: Database[Any], folder: Path, victims: list[Victim], kills: int) -> Counter[str]:
    """Kill `kills` times, at random moments and in each phase in turn; then prove that everything is there."""
    victim = Victim(uri, database.name, folder)
    victims.append(victim)
    load, pushed, hits = Load(victim.addresses), set[int](), Counter[str]()
    try:
        for number in range(kills):
            time.sleep(random.uniform(0.1, 0.5))  # the moment of the kill is the input here
            hits.update(victim.kill_in(PHASES[number // 2 % len(PHASES)] if number % 2 else None))
            pushed |= journalled(victim.journals)
            victim.start()
            load.addresses = victim.addresses
    finally:
        load.stop()
    wait_for(lambda: len(journal_folders(victim.journals)) == 1, 60, "all journals but the living one are gone")
    victim.process.send_signal(signal.SIGKILL)
    victim.process.wait()
    pushed |= journalled(victim.journals)
    victim.start()
    wait_for(lambda: len(journal_folders(victim.journals)) == 1, 60)
    prove(uri, database, load, pushed)
    print("kills per phase:", dict(hits))
    return hits


def test_killed_in_every_phase_nothing_is_lost_or_doubled(
    mongo_uri: str, database: Database[Any], tmp_path: Path, victims: list[Victim]
) -> None:
    hits = kill_round(mongo_uri, database, tmp_path, victims, 12)
    assert set(hits) == set(PHASES)


@pytest.mark.long
def test_killed_a_hundred_times_nothing_is_lost_or_doubled(
    mongo_uri: str, database: Database[Any], tmp_path: Path, victims: list[Victim]
) -> None:
    hits = kill_round(mongo_uri, database, tmp_path, victims, 120)
    assert min(hits[phase] for phase in PHASES) >= 5


def test_the_watermark_waits_for_a_killed_ingester_and_moves_on_after_its_replay(
    mongo_uri: str, database: Database[Any], tmp_path: Path, victims: list[Victim]
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = Victim(mongo_uri, database.name, tmp_path / "one"), Victim(mongo_uri, database.name, tmp_path / "two")
    victims += [one, two]
    load = Load(one.addresses)
    try:
        while "inserting" not in one.kill_in("inserting") or not database["ingest.store"].find_one()["open"]:  # type: ignore[index]
            one.start()
            load.addresses = one.addresses
        held = database["ingest.store"].find_one()["open"][0]  # type: ignore[index]
        load.addresses = two.addresses
        wait_for(lambda: database["event"].count_documents({"_id": {"$gt": held["first"] + held["n"]}}) > 20)
        lowest = min(b["first"] for b in database["ingest.store"].find_one()["open"])  # type: ignore[index]
        assert lowest == held["first"]
    finally:
        load.stop()
    one.start()
    wait_for(lambda: not database["ingest.store"].find_one()["open"], 30)  # type: ignore[index]
    wait_for(lambda: len(journal_folders(one.journals)) == 1, 30)
    prove(mongo_uri, database, load, set())


def held_back(victim: Victim, store: Store, database: Database[Any]) -> dict[str, Any] | None:
    """Kill it while it inserts; return the block that it leaves open and uncommitted, once others went on behind it."""
    if "inserting" not in victim.kill_in("inserting") or not (blocks := store.open_blocks()):
        return None
    held = blocks[0]
    behind = {"_id": {"$gt": held["first"] + held["n"]}}
    wait_for(lambda: database["event"].count_documents(behind) > 40)
    # A commit that had reached mongod when its sender was killed goes through.
    committed = store.verdicts().find_one({"_id": {"j": held["j"], "s": held["s"]}})
    return held if committed is None and held in store.open_blocks() else None


def test_of_three_ingesters_a_killed_one_holds_the_watermark_until_an_operator_releases_its_block(
    mongo_uri: str, database: Database[Any], tmp_path: Path, victims: list[Victim], request: pytest.FixtureRequest
) -> None:
    """The ingester that comes back after all stores its events under new ids, once."""
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        victims.append(Victim(mongo_uri, database.name, tmp_path / name))
    killed, *others = victims
    loads = [Load(victim.addresses) for victim in others]
    last = Load(killed.addresses, first=1_000_000_000)
    store = connect(mongo_uri, database.name)
    request.addfinalizer(store.connection.close)
    try:
        while (held := held_back(killed, store, database)) is None:
            killed.start()
            last.addresses = killed.addresses
        last.stop()
        assert store.watermark().through == held["first"] - 1
        summary = summarize(store)
        assert summary.blockers[0].block == (held["j"], held["s"])
        assert f"block {held['s']} of journal {held['j']}" in advice(summary.blockers[0])
        assert revoke(store, (held["j"], int(held["s"])))
        for block in store.open_blocks(held["j"]):
            revoke(store, (block["j"], int(block["s"])))
        wait_for(lambda: store.watermark().through > held["first"] + held["n"])
        read = store.watermark().through
        journalled_before = journalled(killed.journals)
        killed.start()
        wait_for(lambda: len(journal_folders(killed.journals)) == 1, 30)
        late = list(database["event"].find({"_id": {"$gte": held["first"], "$lt": held["first"] + held["n"]}}))
        assert late == [], "readers have passed these ids"
        assert journalled_before
        assert journalled_before <= {e["context"]["n"] for e in database["event"].find({"type": "pushed"})}
        assert store.watermark().through >= read
    finally:
        for load in [*loads, last]:
            load.stop()
    wait_for(lambda: not store.open_blocks())
    ids = [event["id"] for event in database["event"].find({"type": "sent"}, {"id": 1})]
    assert len(ids) == len(set(ids))
    assert set.union(*(load.acknowledged for load in [*loads, last])) <= set(ids)

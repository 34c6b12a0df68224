"""SIGKILL of `rotate` in each of its steps: events and dumps together stay complete, and the next call finishes."""

from __future__ import annotations

import gzip
import itertools
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.store.rotation import rotate
from ingest.store.store import connect
from tests.support.ingest.halted import Halting
from tests.support.ingest.rotating import ROTATION_PHASES
from tests.support.ingest.running import RunningIngester
from tests.support.waiting import eventually


class Sender:
    """Send acknowledged events while partitions are created and dropped."""

    def __init__(self, address: str) -> None:
        self.acknowledged: set[str] = set()
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with AcknowledgedClient(self._address, connect_timeout_s=20, timeout_s=20) as client:
            for number in itertools.count():
                if self._stop.wait(0.005):
                    return
                ids = [f"{number}-{n}" for n in range(5)]
                assert client.send([{"type": "x", "id": id_} for id_ in ids]).accepted == len(ids)
                self.acknowledged.update(ids)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def partitions(database: Database[Any]) -> list[str]:
    return sorted(database.list_collection_names(filter={"name": {"$regex": r"^event\.[0-9]+$"}}))


def stored(database: Database[Any]) -> set[str]:
    return {event["id"] for name in partitions(database) for event in database[name].find({}, {"id": 1})}


def dumped(folder: Path) -> Counter[str]:
    """Return the ids in finished dumps, all of which must be readable."""
    found: Counter[str] = Counter()
    for path in folder.glob("*.bson.gz"):
        found.update(event["id"] for event in bson.decode_all(gzip.decompress(path.read_bytes())))
    return found


def kill_round(uri: str, database: Database[Any], ingester: RunningIngester, folder: Path, ends: int) -> None:
    dumps, phases = folder / "dumps", folder / "phases"
    phases.mkdir()
    store = connect(uri, database.name)
    store.prepare()
    sender = Sender(ingester.address("ack"))
    kills: Counter[str] = Counter()
    try:
        for phase, end in itertools.product(ROTATION_PHASES, range(ends)):
            before = store.watermark().through
            eventually(lambda before=before: store.watermark().through > before + 20)
            promised = set(sender.acknowledged)
            arguments = [uri, database.name, str(dumps)]
            with Halting("tests.support.ingest.rotating", arguments, ROTATION_PHASES, phases) as program:
                program.halt_in(phase, after=bool(end % 2) if ends > 1 else None)
                kills.update(program.kill())
            eventually(lambda promised=promised: promised <= stored(database) | set(dumped(dumps)))
            eventually(lambda: database[store.watermark().partitions[-1].name].find_one())
            rotate(store, dumps, keep=1)
            assert partitions(database) == [p.name for p in store.watermark().partitions], "a partition is left over"
    finally:
        sender.stop()
    eventually(lambda: sender.acknowledged <= stored(database) | set(dumped(dumps)))
    twice = dumped(dumps) + Counter(stored(database))
    assert max(twice.values()) == 1
    assert {event["id"] for event in database["event"].find()} == stored(database)
    assert list(dumps.glob("*.part")) == []
    store.connection.close()
    print("kills of rotate per phase:", dict(kills))
    assert set(kills) == set(ROTATION_PHASES)


def test_rotate_killed_in_each_step_keeps_events_and_dumps_complete(
    mongo_uri: str, database: Database[Any], ingester: RunningIngester, tmp_path: Path
) -> None:
    kill_round(mongo_uri, database, ingester, tmp_path, 1)


@pytest.mark.long
def test_rotate_killed_often_in_each_step_keeps_events_and_dumps_complete(
    mongo_uri: str, database: Database[Any], ingester: RunningIngester, tmp_path: Path
) -> None:
    kill_round(mongo_uri, database, ingester, tmp_path, 10)

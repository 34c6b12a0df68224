"""SIGKILL of ingesters in every phase, under load: nothing acknowledged or journalled is lost, nothing stored twice."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.exceptions import DeliveryError
from ingest.journal.journal import journal_folders
from ingest.store.block_release import revoke
from ingest.store.ingester_report import advice, summarize
from ingest.store.store import Store, connect
from ingest.wire.refusal import pieces_of
from tests.support.ingest.killable import PHASES
from tests.support.ingest.load import Load, Victim, journalled, prove
from tests.support.ingest.running import sums
from tests.support.waiting import eventually

pytestmark = pytest.mark.early


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
    eventually(lambda: len(journal_folders(victim.journals)) == 1, what="all journals but the living one are gone")
    victim.process.send_signal(signal.SIGKILL)
    victim.process.wait()
    pushed |= journalled(victim.journals)
    victim.start()
    eventually(lambda: len(journal_folders(victim.journals)) == 1)
    prove(uri, database, load, pushed)
    print("kills per phase:", dict(hits))
    return hits


def test_an_ingester_killed_in_every_phase_loses_and_doubles_nothing(
    mongo_uri: str, database: Database[Any], tmp_path: Path, victims: list[Victim]
) -> None:
    hits = kill_round(mongo_uri, database, tmp_path, victims, 12)
    assert set(hits) == set(PHASES)


@pytest.mark.parametrize("phase", ["journalling", "inserting", "settling"])
def test_what_is_refused_is_quarantined_once_though_the_ingester_is_killed_over_it(
    mongo_uri: str, database: Database[Any], tmp_path: Path, victims: list[Victim], phase: str
) -> None:
    victim = Victim(mongo_uri, database.name, tmp_path)
    victims.append(victim)
    left: list[Any] = [{"type": "x", "n": n} for n in range(100)]
    killer = threading.Thread(target=victim.kill_in, args=[phase])
    killer.start()
    eventually(lambda: victim.is_targeted)
    while left:
        address = victim.addresses["ack_bind_address"]
        try:
            with AcknowledgedClient(address, timeout_s=2, attempts=1, connect_timeout_s=0.5) as client:
                client.send(left)
            left = []
        except DeliveryError as error:
            left = error.data["unsent"]
        if not killer.is_alive() and victim.process.poll() is not None:
            victim.start()
    killer.join()
    if victim.process.poll() is not None:
        victim.start()
    eventually(lambda: len(journal_folders(victim.journals)) == 1)
    eventually(lambda: sums(database)["quarantined"] == 100)
    pieces = [piece for entry in database["quarantine"].find() for piece in pieces_of(entry) or ()]
    assert sorted(bson.decode(piece)["n"] for piece in pieces) == list(range(100))


@pytest.mark.long
def test_an_ingester_killed_a_hundred_times_loses_and_doubles_nothing(
    mongo_uri: str, database: Database[Any], tmp_path: Path, victims: list[Victim]
) -> None:
    hits = kill_round(mongo_uri, database, tmp_path, victims, 120)
    assert min(hits[phase] for phase in PHASES) >= 5


def test_the_watermark_waits_for_a_killed_ingester_and_continues_after_its_replay(
    mongo_uri: str, database: Database[Any], tmp_path: Path, victims: list[Victim], request: pytest.FixtureRequest
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = Victim(mongo_uri, database.name, tmp_path / "one"), Victim(mongo_uri, database.name, tmp_path / "two")
    victims += [one, two]
    loads = [load := Load(one.addresses), Load(two.addresses, first=1_000_000_000)]
    store = connect(mongo_uri, database.name)
    request.addfinalizer(store.connection.close)
    try:
        while (held := held_back(one, store, database)) is None:
            one.start()
            load.addresses = one.addresses
        assert store.watermark().through == held["first"] - 1
        load.addresses = two.addresses
        eventually(lambda: load.acknowledged, what="an acknowledged event, of which something is to be proved")
        assert store.watermark().through == held["first"] - 1
    finally:
        for each in loads:
            each.stop()
    one.start()
    eventually(lambda: not database["ingest.store"].find_one()["open"])  # type: ignore[index]
    eventually(lambda: len(journal_folders(one.journals)) == 1)
    for each in loads:
        prove(mongo_uri, database, each, set())


def held_back(victim: Victim, store: Store, database: Database[Any]) -> dict[str, Any] | None:
    """Kill it while it inserts; return the block that it leaves open, once others have committed later blocks."""
    if "inserting" not in victim.kill_in("inserting"):
        return None
    # A commit that had reached mongod when its sender was killed goes through.
    eventually(lambda: not closed_by_senders(database), what="mongod has read all that the killed one sent")
    own = {folder.name for folder in journal_folders(victim.journals)}
    held = next((block for block in store.open_blocks() if block["j"] in own), None)
    if held is None or store.verdicts().find_one({"_id": {"j": held["j"], "s": held["s"]}}):
        return None  # committed, and only not closed yet
    behind = {"_id": {"$gt": held["first"] + held["n"]}}
    eventually(lambda: database["event"].count_documents(behind) > 40)
    eventually(lambda: store.open_blocks()[0] == held, what="all earlier blocks are closed")
    return held


def closed_by_senders(database: Database[Any]) -> list[Any]:
    """Return the connections that mongod has not closed although their other ends have."""
    _, port = database.client.address or ("", 0)
    return [c for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == psutil.CONN_CLOSE_WAIT]


def test_a_killed_ingester_holds_the_watermark_until_an_operator_releases_its_block(
    mongo_uri: str, database: Database[Any], tmp_path: Path, victims: list[Victim], request: pytest.FixtureRequest
) -> None:
    """When the ingester is started again after all, it stores its events under new ids, once."""
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
        eventually(lambda: store.watermark().through > held["first"] + held["n"])
        read = store.watermark().through
        journalled_before = journalled(killed.journals)
        killed.start()
        eventually(lambda: len(journal_folders(killed.journals)) == 1)
        late = list(database["event"].find({"_id": {"$gte": held["first"], "$lt": held["first"] + held["n"]}}))
        assert late == [], "readers have passed these ids"
        assert journalled_before
        assert journalled_before <= {e["context"]["n"] for e in database["event"].find({"type": "pushed"})}
        assert store.watermark().through >= read
    finally:
        for load in [*loads, last]:
            load.stop()
    eventually(lambda: not store.open_blocks())
    ids = [event["id"] for event in database["event"].find({"type": "sent"}, {"id": 1})]
    assert len(ids) == len(set(ids))
    assert set.union(*(load.acknowledged for load in [*loads, last])) <= set(ids)

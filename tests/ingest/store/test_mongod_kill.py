"""A mongod is killed, hangs, steps down, or refuses everything: events wait, and then all arrive once."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import PyMongoError

from ingest.client import AcknowledgedClient
from ingest.journal.journal import journal_folders
from ingest.settings import IngestSettings, JournalSettings
from ingest.store.block_commit import BlockCommit
from ingest.store.connection import Connection
from ingest.store.ingester_report import summarize
from ingest.store.store import connect
from tests.support.ingest.load import Load, Victim, journalled, prove
from tests.support.ingest.mongod import WAITING_FOR_MONGOD, Mongod
from tests.support.ingest.running import ANYWHERE, Start, sums
from tests.support.waiting import eventually

pytestmark = pytest.mark.early


@pytest.fixture
def settings(mongod: Mongod, tmp_path: Path) -> IngestSettings:
    journal = JournalSettings(tmp_path / "journals")
    return IngestSettings(ANYWHERE, ANYWHERE, ANYWHERE, ANYWHERE, lambda: mongod.uri, "hurt", journal)


def kill_round(mongod: Mongod, folder: Path, kills: int) -> Counter[str]:
    """Kill mongod in each phase in turn, under load; then prove that everything is there once."""
    victim = Victim(mongod.uri, "hurt", folder)
    hits, pushed = Counter[str](), set[int]()
    try:
        load = Load(victim.addresses)
        try:
            for number in range(kills):
                hits.update(mongod.kill_in(WAITING_FOR_MONGOD[number % len(WAITING_FOR_MONGOD)], victim))
                pushed |= journalled(victim.journals)
                before = len(load.acknowledged)
                eventually(lambda before=before: len(load.acknowledged) > before, what="events are accepted")
        finally:
            load.stop()
        pushed |= journalled(victim.journals)
        eventually(lambda: not (mongod.database["ingest.store"].find_one() or {"open": 1})["open"])
        victim.kill()
        victim.start()
        eventually(lambda: len(journal_folders(victim.journals)) == 1)
    finally:
        victim.kill()
    prove(mongod.uri, mongod.database, load, pushed)
    print("kills of mongod per phase:", dict(hits))
    return hits


def test_mongod_killed_in_every_phase_loses_and_doubles_nothing(mongod: Mongod, tmp_path: Path) -> None:
    assert set(kill_round(mongod, tmp_path, 3)) == set(WAITING_FOR_MONGOD)


@pytest.mark.long
def test_mongod_killed_a_hundred_times_loses_and_doubles_nothing(mongod: Mongod, tmp_path: Path) -> None:
    hits = kill_round(mongod, tmp_path, 102)
    assert min(hits[phase] for phase in WAITING_FOR_MONGOD) >= 30


def test_a_mongod_that_hangs_longer_than_a_timeout_receives_everything_once(
    mongod: Mongod, settings: IngestSettings, start_ingester: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mongod finishes transactions that timed out on our side later, while they are repeated."""
    monkeypatch.setattr("ingest.store.connection.SOCKET_TIMEOUT_S", 1.5)
    running = start_ingester(settings)
    sent = 0
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        eventually(lambda: client.event("first", {}).accepted and mongod.database["event"].find_one())
        for _ in range(3):
            mongod.halt()
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                sent += client.send([{"type": "x", "id": f"{sent + n}"} for n in range(50)]).accepted
            mongod.resume()
            eventually(lambda sent=sent: _count(mongod, {"type": "x"}) == sent)
    counts = running.ingester.counters
    eventually(lambda: counts.counts().pending == 0)
    assert counts.counts().duplicates == 0, "a repeated block is known by its verdict, not by the ids of its events"


@pytest.mark.parametrize("pending", [0, 10])
def test_an_ingester_stops_without_an_answer_from_a_mongod_that_hangs(
    mongod: Mongod,
    settings: IngestSettings,
    start_ingester: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    pending: int,
) -> None:
    """No timeout of the driver ends the wait: what `stop` waits for by itself must be enough."""
    monkeypatch.setattr("ingest.store.connection.SOCKET_TIMEOUT_S", 3600)
    patient = dataclasses.replace(settings, mongo_address=lambda: f"{mongod.uri}&connectTimeoutMS=3600000")
    running = start_ingester(patient)
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.event("before", {}).accepted == 1
        eventually(lambda: _count(mongod, {}) == 1 and running.ingester.counters.counts().pending == 0)
        mongod.halt()
        sent = client.send([{"type": "during"} for _ in range(pending)]).accepted if pending else 0
    running.stop()
    assert len(journal_folders(settings.journal.folder)) == 1
    mongod.resume()
    eventually(lambda: not any(thread.name.startswith("inserter") for thread in threading.enumerate()))
    assert "InvalidOperation" not in caplog.text
    start_ingester(settings)
    eventually(lambda: _count(mongod, {"type": "during"}) == sent)


def test_a_mongod_that_steps_down_receives_everything_once(
    mongod: Mongod, settings: IngestSettings, start_ingester: Start
) -> None:
    running = start_ingester(settings)
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.event("before", {}).accepted == 1
        eventually(lambda: mongod.database["event"].find_one())
        mongod.admin.command("replSetStepDown", 1, force=True)
        assert client.send([{"type": "during", "id": str(n)} for n in range(100)]).accepted == 100
    eventually(lambda: _count(mongod, {"type": "during"}) == 100)
    assert sums(mongod.database) == {"stored": 101, "duplicates": 0, "quarantined": 0}


def test_connections_made_while_the_server_was_unreadable_are_replaced(
    mongod: Mongod, settings: IngestSettings, start_ingester: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver treats them as connections without sessions for their whole life."""
    mongod.admin.command("replSetStepDown", 600, force=True)
    mongod.admin.command("replSetMaintenance", 1)
    running = start_ingester(settings)
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.event("x", {}).accepted == 1
    eventually(lambda: "events wait in the journal" in caplog.text)
    looking = connect(mongod.uri, "hurt")
    looking.connection.client().admin.command("ping")
    mongod.admin.command("replSetMaintenance", 0)
    mongod.admin.command("replSetFreeze", 0)
    eventually(lambda: _count(mongod, {"type": "x"}) == 1)
    assert summarize(looking).stored == 1
    looking.connection.close()


def test_a_transaction_whose_client_is_closed_does_not_hold_up_its_own_block(
    mongod: Mongod, settings: IngestSettings, start_ingester: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One inserter renews the client that another uses; the server would keep that transaction for ten minutes."""
    mongod.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=600)
    insert = BlockCommit._insert
    clients = []

    def closed_after(commit: BlockCommit, *given: Any) -> Any:
        reply = insert(commit, *given)
        if not clients:
            clients.append(commit._database.client)
            clients[0].close()
        return reply

    monkeypatch.setattr(BlockCommit, "_insert", closed_after)
    renew = Connection.renew
    monkeypatch.setattr(Connection, "renew", lambda self, *, force=False: renew(self, force=True))
    running = start_ingester(settings)
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.send([{"type": "x", "id": str(n)} for n in range(10)]).accepted == 10
    eventually(lambda: _count(mongod, {"type": "x"}) == 10)
    assert clients, "the client was closed in the middle"


def _count(mongod: Mongod, query: dict[str, Any]) -> int:
    with contextlib.suppress(PyMongoError):
        return mongod.database["event"].count_documents(query)
    return -1


def test_events_wait_for_a_server_that_refuses_everything_and_none_is_quarantined(
    mongod: Mongod, settings: IngestSettings, start_ingester: Start
) -> None:
    roles = [{"role": "readWrite", "db": "hurt"}]
    mongod.admin.command("createUser", "writer", pwd="secret", roles=roles)
    address = mongod.uri.split("@")[1]
    running = start_ingester(dataclasses.replace(settings, mongo_address=lambda: f"mongodb://writer:secret@{address}"))
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.event("before", {}).accepted == 1
        eventually(lambda: mongod.database["event"].find_one())
        eventually(lambda: running.ingester.counters.counts().pending == 0, what="the end of the block is noted")
        mongod.admin.command("revokeRolesFromUser", "writer", roles=roles)
        assert client.send([{"type": "during"} for _ in range(10)]).accepted == 10
        assert running.ingester.counters.counts().pending == 10
        connected = connect(mongod.uri, "hurt")
        assert summarize(connected).quarantined == 0
        connected.connection.close()
        mongod.admin.command("grantRolesToUser", "writer", roles=roles)
    eventually(lambda: _count(mongod, {"type": "during"}) == 10)
    assert mongod.database["quarantine"].count_documents({}) == 0


def test_a_journal_fills_while_mongod_hangs_and_drains_afterwards(
    mongod: Mongod, settings: IngestSettings, start_ingester: Start
) -> None:
    journal = dataclasses.replace(settings.journal, segment_bytes=40_000, max_bytes=200_000)
    running = start_ingester(dataclasses.replace(settings, journal=journal))
    load = Load({receiver: running.ingester.addresses[receiver] for receiver in running.ingester.addresses})
    try:
        eventually(lambda: mongod.database["event"].find_one())
        mongod.halt()
        eventually(lambda: running.ingester.writer.full)
        mongod.resume()
        before = len(load.acknowledged)
        eventually(lambda: len(load.acknowledged) > before + 100)
    finally:
        load.stop()
    eventually(lambda: running.ingester.counters.counts().pending == 0)
    prove(mongod.uri, mongod.database, load, journalled(settings.journal.folder))

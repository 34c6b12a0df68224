"""A whole ingester and its journals: MongoDB away or restored, a full journal, journals that others left."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo.database import Database

from ingest.client import AcknowledgedClient, ZarkovClient
from ingest.exceptions import BusyError, DeliveryError, QueueFullError
from ingest.journal.journal import Journal, StoreIdentity, journal_folders
from ingest.journal.record import RecordKind
from ingest.settings import IngestSettings, JournalSettings
from ingest.store.store import connect
from tests.support.ingest.load import journalled
from tests.support.ingest.running import Start, events, types
from tests.support.waiting import eventually


class LateMongod:
    """The address of a mongod that does not run before `starts` is set."""

    def __init__(self, uri: str = "") -> None:
        self.starts = threading.Event()
        self._uri = uri

    def __call__(self) -> str:
        if not self.starts.is_set():
            raise ConnectionError("no mongod yet")
        return self._uri


def is_taken(client: AcknowledgedClient, event: dict[str, Any]) -> bool:
    try:
        return client.send([event]).accepted == 1
    except DeliveryError:
        return False


def test_events_wait_in_the_journal_while_mongodb_is_absent_and_then_arrive(
    start_ingester: Start, ingest_settings: IngestSettings, mongo_uri: str, database: Database[Any]
) -> None:
    mongod = LateMongod(mongo_uri)
    running = start_ingester(dataclasses.replace(ingest_settings, mongo_address=mongod))
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.send([{"type": str(n)} for n in range(100)]).accepted == 100
    assert events(database) == []
    mongod.starts.set()
    eventually(lambda: len(events(database)) == 100)
    assert types(database) == [str(n) for n in range(100)]


def test_the_journal_of_a_stopped_ingester_is_committed_by_the_next(
    start_ingester: Start, ingest_settings: IngestSettings, database: Database[Any], request: pytest.FixtureRequest
) -> None:
    first = start_ingester(dataclasses.replace(ingest_settings, mongo_address=LateMongod()))
    with AcknowledgedClient(first.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.send([{"type": "a"}, {"type": "b"}, {}])
    first.stop()
    assert len(journal_folders(ingest_settings.journal.folder)) == 1
    second = start_ingester(ingest_settings)
    eventually(lambda: len(events(database)) == 2)
    eventually(lambda: len(journal_folders(ingest_settings.journal.folder)) == 1, what="the old journal is removed")
    request.getfixturevalue("time_to_commit")
    second.stop()
    assert journal_folders(ingest_settings.journal.folder) == []
    assert database["ingest.store"].find_one()["open"] == []


def test_a_journal_left_while_an_ingester_runs_is_committed_by_it(
    start_ingester: Start, ingest_settings: IngestSettings, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.server.ingester.ADOPT_EVERY_S", 0.1)
    start_ingester(ingest_settings)
    left = Journal.create(ingest_settings.journal)
    left.append([(RecordKind.EVENTS, 1, bson.encode({"type": "left", "timestamp": None, "context": {}}))])
    left.sync()
    left.release()
    eventually(lambda: types(database) == ["left"])
    eventually(lambda: not left.folder.exists())


@pytest.mark.parametrize("sync", ["batch", "off"])
def test_nothing_is_acknowledged_before_it_is_on_disk(
    start_ingester: Start, ingest_settings: IngestSettings, database: Database[Any], monkeypatch: pytest.MonkeyPatch,
    sync: str,
) -> None:  # fmt: skip
    on_disk, sync_to_disk = threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        assert on_disk.wait(240)
        sync_to_disk(descriptor)

    journal = dataclasses.replace(ingest_settings.journal, sync=sync)
    running = start_ingester(dataclasses.replace(ingest_settings, journal=journal))
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=0.5, attempts=1) as client:
        eventually(lambda: is_taken(client, {"type": "first"}))
        monkeypatch.setattr(os, "fdatasync", slow)
        with pytest.raises(DeliveryError, match="did not answer"):
            client.send([{"type": "second", "id": "2"}])
        on_disk.set()
        eventually(lambda: is_taken(client, {"type": "second", "id": "2"}))
    eventually(lambda: types(database).count("second") == 1)


def test_a_full_journal_answers_busy_and_continues_when_there_is_space(
    start_ingester: Start, ingest_settings: IngestSettings, mongo_uri: str, database: Database[Any]
) -> None:
    mongod = LateMongod(mongo_uri)
    journal = dataclasses.replace(ingest_settings.journal, segment_bytes=40_000, max_bytes=400_000)
    running = start_ingester(dataclasses.replace(ingest_settings, mongo_address=mongod, journal=journal))
    acknowledged: set[str] = set()
    with (
        AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=5, attempts=1) as client,
        ZarkovClient(running.address("bson"), high_water_count=1, timeout_s=0.2) as pusher,
    ):

        def is_over(id_: str) -> bool:
            """Send one; return False if it must be sent again, because the machine was too busy to answer."""
            try:
                client.send([{"type": "a", "id": id_, "extra": "x" * 1_000}])
            except BusyError:
                raise
            except DeliveryError:
                return running.ingester.writer.full  # it waits for space: neither acknowledged nor refused
            acknowledged.add(id_)
            return True

        def fill() -> None:
            for n in range(1_000):
                while not is_over(str(n)):
                    pass

        with pytest.raises(BusyError):
            fill()
        assert 200 < len(acknowledged) < 600
        with pytest.raises(QueueFullError):
            for _ in range(50_000):
                pusher.send({"type": "b", "extra": "x" * 2_000})
        mongod.starts.set()
        eventually(lambda: is_taken(client, {"type": "last", "id": "last"}))
        pusher.close(60)  # what is under way leaves as soon as reading resumes
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20, attempts=1) as patient:
        eventually(lambda: is_taken(patient, {"type": "after"}))
    eventually(lambda: database["event"].count_documents({"type": "last"}) == 1)
    assert acknowledged <= {event["id"] for event in database["event"].find({"type": "a"})}


def test_events_pushed_before_the_end_are_journalled_even_if_the_journal_is_full(
    start_ingester: Start, ingest_settings: IngestSettings, push: Callable[..., None]
) -> None:
    """The receivers no longer read: what was sent is in ZeroMQ's queue and in the kernel."""
    journal = dataclasses.replace(ingest_settings.journal, segment_bytes=40_000, max_bytes=100_000)
    running = start_ingester(dataclasses.replace(ingest_settings, mongo_address=LateMongod(), journal=journal))
    messages = [bson.encode({"type": "pushed", "context": {"n": n}, "extra": "x" * 200}) for n in range(4_000)]
    push(running.address("bson"), *messages[:300])
    # In a journal that is at most half full, a single record of any size fits: it could take all that follows.
    eventually(lambda: running.ingester.writer._journal.size_bytes > journal.max_bytes / 2)
    push(running.address("bson"), *messages[300:])
    push(running.address("json"), *(b'{"type": "pushed", "context": {"n": %d}}' % n for n in range(4_000, 5_000)))
    eventually(lambda: running.ingester.writer.full)
    running.stop()
    assert journalled(journal.folder) == set(range(5_000))


def test_a_journal_of_another_store_is_reported_and_not_committed(
    start_ingester: Start, ingest_settings: IngestSettings, database: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.create(ingest_settings.journal)
    journal.append([(RecordKind.EVENTS, 1, bson.encode({"type": "old", "timestamp": None, "context": {}}))])
    journal.set_store_identity(StoreIdentity("another", 1))
    journal.finish()
    journal.release()
    running = start_ingester(ingest_settings)
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.event("new", {})
    eventually(lambda: types(database) == ["new"])
    assert "--rebind" in next(iter(running.ingester.committer.dispatcher.blocked().values()))
    assert "another" in caplog.text
    running.stop()
    start_ingester(ingest_settings, rebind=True)
    eventually(lambda: sorted(types(database)) == ["new", "old"])


def test_a_database_restored_under_a_running_ingester_is_noticed_and_not_written_to(
    start_ingester: Start, ingest_settings: IngestSettings, mongo_uri: str, database: Database[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    running = start_ingester(ingest_settings)
    names = ("ingest.store", "ingest.verdict", "event.1")
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        for kind in ("a", "b"):
            client.event(kind, {})
            eventually(lambda kind=kind: types(database)[-1:] == [kind])
            if kind == "a":
                eventually(lambda: database["ingest.store"].find_one()["open"] == [])
                copy = {name: list(database[name].find()) for name in names}
        eventually(lambda: database["ingest.store"].find_one()["open"] == [])
        for name in names:
            database[name].delete_many({})
            database[name].insert_many(copy[name])
        client.event("c", {})
        eventually(lambda: "restored from a copy" in caplog.text)
    running.stop()
    assert types(database) == ["a"]
    store = connect(mongo_uri, database.name)
    store.restored()
    cautious = start_ingester(ingest_settings)
    eventually(
        lambda: any(
            "epoch 1" in why and "--rebind" in why for why in cautious.ingester.committer.dispatcher.blocked().values()
        )
    )
    cautious.stop()
    start_ingester(ingest_settings, rebind=True)
    eventually(
        lambda: sorted(types(database)) == ["a", "b", "c"], what="b too, which the copy lacks and the journal has"
    )
    eventually(lambda: store.open_blocks() == [])
    store.connection.close()


@pytest.mark.parametrize("sync", ["interval:20", "off"])
def test_every_sync_setting_stores_everything(
    start_ingester: Start, ingest_settings: IngestSettings, tmp_path: Path, database: Database[Any], sync: str,
    push: Callable[..., None], time_to_commit: None,
) -> None:  # fmt: skip
    settings = dataclasses.replace(ingest_settings, journal=JournalSettings(tmp_path / "j", sync=sync))
    running = start_ingester(settings)
    push(running.address("bson"), *[bson.encode({"type": str(n)}) for n in range(50)])
    eventually(lambda: len(events(database)) == 50)
    running.stop()
    assert journal_folders(tmp_path / "j") == []

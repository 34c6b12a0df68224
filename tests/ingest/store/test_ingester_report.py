"""Counts from verdicts, compaction, releasing blocks, and the replay of refused input."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.exceptions import IngestError
from ingest.journal.block import BlockBounds
from ingest.journal.journal import Journal, journal_folders
from ingest.journal.record import RecordKind
from ingest.load.quarantine_input import as_text, decoded, from_text
from ingest.load.quarantine_replay import ReplayedEntry, keep_mended, replay_all
from ingest.server.counters import Counters, Counts, RateMeter
from ingest.settings import IngestSettings
from ingest.store.block_content import Verdict
from ingest.store.block_release import revoke
from ingest.store.ingester_report import advice, report, summarize
from ingest.store.quarantine import key_text, parse_key
from ingest.store.store import Store
from ingest.store.verdict_compaction import compact, retire
from tests.support.ingest.running import RunningIngester, Start, sums
from tests.support.waiting import eventually


def verdict(store: Store, journal: str, number: int, **more: Any) -> None:
    document = {"stored": 3, "duplicates": 2, "quarantined": 1, "from": number * 10, "to": number * 10 + 9, "first": 1}
    store.verdicts().insert_one({"_id": {"j": journal, "s": number}} | document | more)


def test_counters_report_how_much_waits_and_for_how_long() -> None:
    now = 100.0
    counters = Counters(lambda: now)
    counters.received(5)
    now = 103.0
    counters.received(5)
    assert (counters.counts().pending, counters.oldest_pending_s()) == (10, 3.0)
    counters.committed(Verdict(stored=4, duplicates=1), adopted=False)
    counters.committed(Verdict(stored=9), adopted=True)
    assert (counters.counts().pending, counters.oldest_pending_s()) == (5, 0.0)
    counters.committed(Verdict(stored=5), adopted=False)
    now = 999.0
    assert (counters.counts().stored, counters.oldest_pending_s()) == (18, 0.0)


def test_rates_cover_the_time_since_the_last_call() -> None:
    meter = RateMeter()
    assert meter.rates(Counts(received=100, stored=50), 7.0) == {"received_per_s": 0.0, "stored_per_s": 0.0}
    assert meter.rates(Counts(received=300, stored=250), 11.0) == {"received_per_s": 50.0, "stored_per_s": 50.0}
    assert meter.rates(Counts(received=300, stored=350), 13.0) == {"received_per_s": 0.0, "stored_per_s": 50.0}


def test_there_is_one_report_per_journal_and_verdicts_younger_than_it_are_not_counted_twice(store: Store) -> None:
    verdict(store, "j", 1)
    verdict(store, "k", 1)
    verdict(store, "k", 2)
    values = {"host": "h", "pid": 1, "received": 20, "pending": 14, "bytes": 9, "oldest_pending_s": 2.0, "full": True}
    report(store, "k", values)
    report(store, "j", values | {"received": 6, "pending": 0, "received_per_s": 3.5, "oldest_pending_s": 0.0})
    long_ago = [{"$set": {"seen": {"$subtract": ["$$NOW", 60_000]}}}]
    store.database()["ingest.journal"].update_one({"_id": "k"}, long_ago)
    gone, alive = summarize(store).ingesters
    assert (gone.journal, gone.alive, gone.full) == ("k", False, True)
    assert (gone.stored, gone.duplicates, gone.quarantined, gone.pending, gone.received) == (6, 4, 2, 8, 20)
    assert 60 <= gone.age_s < 90
    assert 62 <= gone.oldest_pending_s < 92, "it has kept waiting since the report"
    assert (alive.journal, alive.alive, alive.received, alive.pending) == ("j", True, 6, 0)
    assert (alive.received_per_s, alive.stored_per_s) == (3.5, 0.0)
    retire(store, "k")
    assert [r.journal for r in summarize(store).ingesters] == ["j"]


def test_the_sums_are_the_same_before_and_after_compaction(store: Store) -> None:
    for number in (1, 2, 3):
        verdict(store, "j", number)
    verdict(store, "k", 1)
    report(store, "j", {"host": "h", "pid": 1, "pending": 7, "bytes": 99, "oldest_pending_s": 2.5, "full": False})
    before = summarize(store)
    assert (before.stored, before.duplicates, before.quarantined, before.pending) == (12, 8, 4, 7)
    assert (before.received, before.journal_bytes, before.oldest_pending_s) == (31, 99, 2.5)
    assert compact(store, "j", 29) == 2
    assert compact(store, "j", 29) == 0
    assert summarize(store).received == before.received
    retire(store, "j")
    after = summarize(store)
    assert (after.stored, after.duplicates, after.quarantined, after.pending) == (12, 8, 4, 0)
    assert store.verdicts().count_documents({}) == 1
    verdict(store, "j", 2)
    assert summarize(store).received == after.received, "left by a crash between the sum and the removal"
    assert retire(store, "j") == 0
    assert summarize(store) == dataclasses.replace(after, watermark=after.watermark)


def test_a_running_ingester_compacts_verdicts_and_reports(
    start_ingester: Start, ingest_settings: IngestSettings, database: Database[Any], store: Store,
    monkeypatch: pytest.MonkeyPatch, time_to_commit: None,
) -> None:  # fmt: skip
    monkeypatch.setattr("ingest.server.committer.REPORT_EVERY_S", 0.1)
    journal = dataclasses.replace(ingest_settings.journal, segment_bytes=4096)
    running = start_ingester(dataclasses.replace(ingest_settings, journal=journal))
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        for _ in range(60):
            client.send([{"type": "x", "extra": "x" * 500}])
        eventually(lambda: 0 < database["ingest.verdict"].count_documents({}) < 20)
    eventually(lambda: (s := summarize(store)).stored == 60 and s.pending == 0)
    assert [r.alive for r in summarize(store).ingesters] == [True]
    running.stop()
    assert database["ingest.verdict"].count_documents({}) == 0
    assert sums(database)["stored"] == 60
    assert summarize(store).ingesters == ()


def test_restored_files_of_a_removed_journal_are_not_stored_again(
    start_ingester: Start, ingest_settings: IngestSettings, database: Database[Any], tmp_path: Any
) -> None:
    import shutil

    journal = Journal.create(ingest_settings.journal)
    journal.append([(RecordKind.EVENTS, 1, bson.encode({"type": "once", "timestamp": None, "context": {}}))])
    journal.finish()
    journal.release()
    shutil.copytree(journal.folder, tmp_path / "copy")
    first = start_ingester(ingest_settings)
    eventually(lambda: not journal.folder.exists())
    first.stop()
    shutil.copytree(tmp_path / "copy", journal.folder)
    second = start_ingester(ingest_settings)
    eventually(
        lambda: (
            "drained and removed before" in second.ingester.committer.dispatcher.blocked().get(str(journal.uuid), "")
        )
    )
    assert database["event"].count_documents({}) == 1


def test_a_journal_killed_between_its_last_file_and_its_folder_is_removed(
    start_ingester: Start, ingest_settings: IngestSettings, store: Store
) -> None:
    journal = Journal.create(ingest_settings.journal)
    journal.set_store_identity(store.identity())
    journal.release()
    retire(store, str(journal.uuid))
    start_ingester(ingest_settings)
    eventually(lambda: not journal.folder.exists())


def test_verdicts_of_a_journal_are_removed_after_its_files(
    start_ingester: Start, ingest_settings: IngestSettings, monkeypatch: pytest.MonkeyPatch, time_to_commit: None
) -> None:
    """A replay would need them if a power failure brought the files back."""
    steps: list[tuple[str, str]] = []
    sync_removals, remove = Journal.sync_removals, Journal.remove

    def synced(journal: Journal) -> None:
        assert list(journal.folder.glob("*.seg")) == []
        steps.append(("synced", str(journal.uuid)))
        sync_removals(journal)

    def retired(store: Store, journal: str) -> int:
        steps.append(("retired", journal))
        return retire(store, journal)

    def removed(journal: Journal) -> None:
        steps.append(("removed", str(journal.uuid)))
        remove(journal)

    monkeypatch.setattr(Journal, "sync_removals", synced)
    monkeypatch.setattr(Journal, "remove", removed)
    monkeypatch.setattr("ingest.server.dispatcher.retire", retired)
    running = start_ingester(ingest_settings)
    journal = str(running.ingester.committer.dispatcher._sources[0].journal.uuid)
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.event("x", {}).accepted == 1
    eventually(lambda: running.ingester.counters.counts().pending == 0)
    running.stop()
    assert steps == [("synced", journal), ("retired", journal), ("removed", journal)]


def test_releasing_a_block_lets_the_watermark_move_and_gives_its_owner_new_ids(
    start_ingester: Start, ingest_settings: IngestSettings, store: Store, database: Database[Any]
) -> None:
    journal = Journal.create(ingest_settings.journal)
    journal.append([(RecordKind.EVENTS, 1, bson.encode({"type": "late", "timestamp": None, "context": {}}))])
    journal.set_store_identity(store.identity())
    held = store.reserve(store.identity(), (str(journal.uuid), 1), BlockBounds(1, 1), 1)
    running = start_ingester(ingest_settings)
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.event("other", {})
    eventually(lambda: database["event"].count_documents({}) == 1)
    summary = summarize(store)
    assert (summary.watermark, summary.blockers[0].block) == (0, held.block)
    assert "release the block" in advice(summary.blockers[0])
    assert revoke(store, held.block)
    eventually(lambda: store.watermark().through == 2)
    with pytest.raises(IngestError, match="not open"):
        revoke(store, held.block)
    journal.finish()
    journal.release()
    assert journal.folder in journal_folders(ingest_settings.journal.folder)
    eventually(lambda: database["event"].count_documents({}) == 2)
    late = database["event"].find_one({"type": "late"})
    assert late is not None
    assert late["_id"] > held.first
    eventually(lambda: store.watermark().through == late["_id"])


def test_a_block_without_records_is_revoked_at_adoption(
    start_ingester: Start, ingest_settings: IngestSettings, store: Store
) -> None:
    journal = Journal.create(ingest_settings.journal)
    journal.set_store_identity(store.identity())
    store.reserve(store.identity(), (str(journal.uuid), 1), BlockBounds(1, 5), 5)
    journal.release()
    start_ingester(ingest_settings)
    eventually(lambda: store.watermark().through == 5)


def test_releasing_a_block_that_was_committed_only_settles_it(store: Store) -> None:
    identity = store.identity()
    held = store.reserve(identity, ("j", 1), BlockBounds(1, 1), 1)
    verdict(store, "j", 1)
    assert not revoke(store, held.block)
    assert store.open_blocks() == []
    assert summarize(store).stored == 3


def replay(
    store: Store, client: AcknowledgedClient, key: Mapping[str, Any], mended: Mapping[str, Any] | None = None
) -> ReplayedEntry:
    entry = store.database()["quarantine"].find_one({"_id": key})
    assert entry is not None
    return next(iter(replay_all(store.database(), client, [entry], mended=mended)))


def test_refused_input_is_read_mended_and_replayed_once(
    ingester: RunningIngester, store: Store, database: Database[Any]
) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.send([{"type": "x", "colour": "red"}, bson.encode({"type": "x"})[:-1] + b"\x01"])
        eventually(lambda: database["quarantine"].count_documents({}) == 2)
        entries = {entry["code"]: entry for entry in database["quarantine"].find()}
        key = entries["unknown_field"]["_id"]
        assert decoded(entries["bad_bson"]) is None
        found = decoded(entries["unknown_field"])
        assert found is not None
        assert not (still := replay(store, client, key)).accepted
        assert "colour" in still.message
        mended = from_text(as_text({"type": found["type"], "extra": {"colour": found["colour"]}}))
        assert parse_key(key_text(key)) == key
        for _ in range(2):
            assert replay(store, client, parse_key(key_text(key)), mended).accepted
        assert "cannot be read" in replay(store, client, entries["bad_bson"]["_id"]).message
        eventually(lambda: sums(database)["duplicates"] == 1)
    assert [e["extra"] for e in database["event"].find()] == [{"colour": "red"}]
    assert database["quarantine"].count_documents({"replayed": {"$ne": None}}) == 1
    with pytest.raises(IngestError, match="there is no"):
        keep_mended(database, {"j": "none", "s": 1, "i": 1}, {})


def test_an_entry_is_replayed_by_the_rules_of_its_receiver_and_always_under_one_id(
    ingester: RunningIngester, store: Store, database: Database[Any]
) -> None:
    noval = bson.encode({"$command": "event_noval", "timestamp": 5, "foo": 1})
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.send([noval])
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.connect(ingester.address("json"))
            socket.send(b'{"type":"x","timestamp":"2011-07-01T10:00:00+02:00","bogus":1,"id":"own"}')
            eventually(lambda: database["quarantine"].count_documents({}) == 2)
        entries = {entry["code"]: entry for entry in database["quarantine"].find()}
        assert b"event_noval" in entries["bad_timestamp"]["raw"]
        kept = decoded(entries["bad_timestamp"])
        assert kept is not None
        assert replay(store, client, entries["bad_timestamp"]["_id"], kept | {"timestamp": "2011-07-01"}).accepted
        assert (
            "bad_timestamp" in replay(store, client, entries["bad_timestamp"]["_id"], kept | {"timestamp": "?"}).message
        )
        mended = decoded(entries["unknown_field"])
        assert mended is not None
        del mended["bogus"]
        key = entries["unknown_field"]["_id"]
        for _ in range(2):
            assert replay(store, client, key, mended).accepted
        other = replay(store, client, key, mended | {"id": "other"})
        assert (other.accepted, "under id 'own'" in other.message) == (False, True)
    eventually(lambda: sums(database) == {"stored": 2, "duplicates": 1, "quarantined": 2})
    stored = {event.get("id"): event for event in database["event"].find()}
    assert stored["own"]["timestamp"] == datetime(2011, 7, 1, 8, tzinfo=UTC)
    assert next(event for event in stored.values() if "foo" in event)["timestamp"].year == 2011


def test_a_full_quarantine_only_counts_further_input(
    ingester: RunningIngester, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.store.block_commit.QUARANTINE_MAX_COUNT", 3)
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        for _ in range(5):
            client.send([{}])
            client.event("x", {})
    eventually(lambda: sums(database) == {"stored": 5, "duplicates": 0, "quarantined": 5})
    assert database["quarantine"].count_documents({}) == 3


def test_a_quarantine_at_its_byte_limit_only_counts_further_input(
    ingester: RunningIngester, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.store.block_commit.QUARANTINE_MAX_BYTES", 1)
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.send([{}])
        eventually(lambda: sums(database)["quarantined"] == 1)
        client.send([{}, {"type": "x"}, {}])
    eventually(lambda: sums(database) == {"stored": 1, "duplicates": 0, "quarantined": 3})
    assert database["quarantine"].count_documents({}) == 1

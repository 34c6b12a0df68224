"""An operator can release a block at any moment while its journal still has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bson
import pytest
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from ingest.journal.block import BlockBounds
from ingest.journal.journal import Journal
from ingest.journal.record import RecordKind
from ingest.server.dispatcher import Dispatcher, ReservedBlock
from ingest.settings import IngestSettings
from ingest.store.block_commit import BlockCommit
from ingest.store.block_content import BlockContent, Verdict
from ingest.store.block_release import revoke
from ingest.store.store import Store

STEPS = 20  # more mean an endless loop


def raise_it(error: Exception) -> None:
    raise error


class Owner:
    """Commit journals to MongoDB step by step."""

    def __init__(self, store: Store, settings: IngestSettings) -> None:
        self.settings = settings.journal
        self.commits = BlockCommit(store.database())
        self.dispatcher = Dispatcher(
            store,
            settings,
            rebind=False,
            wake=lambda: None,
            on_blocked=raise_it,
            on_settled=lambda watermark, count: None,
        )

    def next_work(self) -> ReservedBlock | None:
        return self.dispatcher.next_work(lambda: self.commits.session_id)

    def commit(self, work: ReservedBlock) -> Verdict:
        verdict = self.commits.run(work.reservation, BlockContent.of(work.block), first_try=work.first_try)
        self.dispatcher.committed(work, verdict)
        return verdict

    def finish(self) -> None:
        """Continue until everything is settled."""
        idle = 0
        for _ in range(STEPS):
            work = self.next_work()
            idle = 0 if work else idle + 1
            if work:
                self.commit(work)
            elif idle == 3:
                return
        raise AssertionError(f"not done after {STEPS} steps")


@pytest.fixture
def owner(store: Store, ingest_settings: IngestSettings) -> Iterator[Owner]:
    owner = Owner(store, ingest_settings)
    yield owner
    owner.commits.close()


@pytest.fixture
def journal(store: Store, ingest_settings: IngestSettings) -> Iterator[Journal]:
    """Return a journal with one event."""
    journal = Journal.create(ingest_settings.journal)
    journal.append([(RecordKind.EVENTS, 1, bson.encode({"type": "late", "context": {}}))])
    journal.sync()
    journal.set_store_identity(store.identity())
    yield journal
    journal.release()


def fails(*args: Any, **named: Any) -> None:
    raise AutoReconnect("the connection broke")


def stored_ids(database: Database[Any]) -> list[int]:
    return [event["_id"] for event in database["event"].find()]


def test_a_block_released_just_after_its_journal_was_adopted_gets_new_ids(
    store: Store, owner: Owner, journal: Journal, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = store.reserve(store.identity(), (str(journal.uuid), 1), BlockBounds(1, 1), 1)
    journal.release()
    owner.dispatcher.add(adopted := Journal.adopt(journal.folder, owner.settings), adopted=True)
    with monkeypatch.context() as broken:
        broken.setattr(Store, "reserve", fails)
        with pytest.raises(AutoReconnect):
            owner.next_work()
    assert revoke(store, held.block)
    owner.finish()
    assert stored_ids(database) == [held.first + 1]
    assert (store.open_blocks(), adopted.folder.exists()) == ([], False)


def test_a_block_released_while_it_is_committed_gets_new_ids_even_if_the_release_is_interrupted(
    store: Store, owner: Owner, journal: Journal, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.dispatcher.add(journal, adopted=False)
    work = owner.next_work()
    assert work is not None
    with monkeypatch.context() as broken:
        broken.setattr(Store, "settle", fails)
        with pytest.raises(AutoReconnect):
            revoke(store, work.reservation.block)
    assert owner.commit(work) == Verdict(revoked=True)
    owner.finish()
    assert stored_ids(database) == [work.reservation.first + 1]
    assert store.watermark().through < work.reservation.first, "it is open until the release is repeated"
    assert revoke(store, work.reservation.block)
    assert store.watermark().through == work.reservation.first + 1


def adopt_before_a_reservation(
    store: Store, owner: Owner, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> Journal:
    """Adopt the journal with a second record, and read both as a block; then its earlier owner reserves the first."""
    journal.append([(RecordKind.EVENTS, 1, bson.encode({"type": "later", "context": {}}))])
    journal.sync()
    journal.release()
    owner.dispatcher.add(adopted := Journal.adopt(journal.folder, owner.settings), adopted=True)
    with monkeypatch.context() as broken:
        broken.setattr(Store, "reserve", fails)
        with pytest.raises(AutoReconnect):
            owner.next_work()
    store.reserve(store.identity(), (str(journal.uuid), 1), BlockBounds(1, 1), 1)
    return adopted


def test_a_block_that_an_earlier_owner_reserved_in_parts_is_stored_once_if_the_next_reservation_fails(
    store: Store, owner: Owner, journal: Journal, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt_before_a_reservation(store, owner, journal, monkeypatch)
    calls = iter([Store.reserve])
    with monkeypatch.context() as broken:
        broken.setattr(Store, "reserve", lambda *args, **named: next(calls, fails)(*args, **named))
        while True:
            try:
                work = owner.next_work()
            except AutoReconnect:
                break
            assert work is None
    owner.finish()
    assert sorted(event["type"] for event in database["event"].find()) == ["late", "later"]


def test_records_that_were_put_back_keep_their_segment_until_they_are_settled(
    store: Store, owner: Owner, journal: Journal, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted = adopt_before_a_reservation(store, owner, journal, monkeypatch)
    assert owner.next_work() is None, "the block was put back"
    assert [segment.open_records for segment in adopted.segments] == [2]
    work = owner.next_work()
    assert work is not None
    owner.commit(work)
    assert [segment.path.exists() for segment in adopted.segments] == [True], "its second record is not stored yet"
    owner.finish()
    assert sorted(event["type"] for event in database["event"].find()) == ["late", "later"]
    assert not adopted.folder.exists()

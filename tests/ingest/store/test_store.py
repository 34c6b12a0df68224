"""The store document: reservation, watermark, settling, partitions."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bson.binary import Binary
from pymongo import MongoClient
from pymongo.database import Database

from ingest.exceptions import StaleBlockError, StoreChangedError, StoreUnpreparedError
from ingest.journal.block import BlockBounds
from ingest.journal.journal import StoreIdentity
from ingest.store.store import Store, connect

J, K = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.fixture
def store(mongo_uri: str, database: Database[Any]) -> Iterator[Store]:
    store = connect(mongo_uri, database.name)
    yield store
    store.connection.close()


@pytest.fixture
def identity(store: Store) -> StoreIdentity:
    return store.prepare()


def test_an_empty_store_has_watermark_zero(store: Store, identity: StoreIdentity) -> None:
    watermark = store.watermark()
    assert watermark.through == 0
    assert [(p.name, p.first_id) for p in watermark.partitions] == [("event.1", 1)]
    assert (watermark.store, watermark.epoch) == (identity.store, identity.epoch)
    assert abs(watermark.complete_through - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=60)


def test_preparing_twice_keeps_the_store(store: Store, identity: StoreIdentity) -> None:
    assert store.prepare() == identity


def test_an_unprepared_store_names_the_remedy(store: Store) -> None:
    with pytest.raises(StoreUnpreparedError, match="initdb"):
        store.watermark()


def test_the_watermark_ends_below_the_lowest_open_block(store: Store, identity: StoreIdentity) -> None:
    one = store.reserve(identity, (J, 1), BlockBounds(1, 1), 10)
    two = store.reserve(identity, (K, 1), BlockBounds(1, 3), 5)
    assert (one.first, two.first) == (1, 11)
    store.settle(identity, [(K, 1)])
    assert store.watermark().through == 0
    assert store.watermark().complete_through == store.open_blocks()[0]["at"]
    store.settle(identity, [(J, 1)])
    assert store.watermark().through == 15


def test_reserving_again_returns_the_same_ids_and_bounds(store: Store, identity: StoreIdentity) -> None:
    one = store.reserve(identity, (J, 1), BlockBounds(1, 2), 10)
    again = store.reserve(identity, (J, 1), BlockBounds(1, 7), 99)
    assert (again.first, again.count, again.bounds) == (one.first, 10, BlockBounds(1, 2, 1))
    assert store.reserve(identity, (J, 2), BlockBounds(8, 9), 1).first == 11


def test_an_adopted_block_has_the_session_of_its_new_owner(store: Store, identity: StoreIdentity) -> None:
    for session in (Binary(b"1" * 16, 4), Binary(b"2" * 16, 4)):
        store.reserve(identity, (J, 1), BlockBounds(1, 2), 10, session=session)
        assert [b["session"] for b in store.open_blocks()] == [session]


def test_ending_a_session_releases_the_locks_of_its_transaction(
    store: Store, identity: StoreIdentity, mongo_uri: str
) -> None:
    with MongoClient[Any](mongo_uri) as gone, gone.start_session() as session:
        session.start_transaction()
        gone[store.database().name]["event.1"].insert_one({"_id": 1}, session=session)
        store.end_sessions([session.session_id["id"]])
        with store.connection.client().start_session() as other, other.start_transaction():
            store.database()["event.1"].insert_one({"_id": 1}, session=other)


def test_a_settled_number_cannot_be_reserved_again(store: Store, identity: StoreIdentity) -> None:
    store.reserve(identity, (J, 1), BlockBounds(1, 1), 10)
    store.settle(identity, [(J, 1)])
    with pytest.raises(StaleBlockError):
        store.reserve(identity, (J, 1), BlockBounds(1, 1), 10)
    assert store.watermark().through == 10


def test_blocks_are_settled_with_the_next_reservation(store: Store, identity: StoreIdentity) -> None:
    store.reserve(identity, (J, 1), BlockBounds(1, 1), 10)
    store.reserve(identity, (J, 2), BlockBounds(2, 2), 1, settled=[(J, 1)])
    assert [(b["j"], b["s"]) for b in store.open_blocks()] == [(J, 2)]
    assert store.watermark().through == 10


@pytest.mark.parametrize("change", [lambda m: StoreIdentity("other", m.epoch), lambda m: StoreIdentity(m.store, 2)])
def test_another_store_or_epoch_is_refused(
    store: Store, identity: StoreIdentity, change: Callable[[StoreIdentity], StoreIdentity]
) -> None:
    with pytest.raises(StoreChangedError, match="rebind"):
        store.reserve(change(identity), (J, 1), BlockBounds(1, 1), 1)


def test_ids_are_not_reused_after_the_store_document_was_emptied(store: Store, database: Database[Any]) -> None:
    database["event.1"].insert_one({"_id": 41, "type": "x"})
    assert store.reserve(store.prepare(), (J, 1), BlockBounds(1, 1), 1).first == 42


def test_a_collection_of_the_views_name_is_not_touched(store: Store, database: Database[Any]) -> None:
    database["event"].insert_one({"type": "of 2011"})
    with pytest.raises(StoreChangedError, match="rename"):
        store.prepare()


def test_a_restored_store_starts_an_epoch_with_ids_above_every_event(store: Store, identity: StoreIdentity) -> None:
    store.database()["event.1"].insert_one({"_id": 41, "type": "x"})  # younger than the store document in the copy
    restored = store.restored()
    assert restored == StoreIdentity(identity.store, identity.epoch + 1)
    with pytest.raises(StoreChangedError, match="rebind"):
        store.reserve(identity, (J, 1), BlockBounds(1, 1), 1)
    assert store.reserve(restored, (J, 1), BlockBounds(1, 1), 1).first == 42
    assert store.watermark().epoch == 2


def test_complete_through_does_not_go_back_when_mongodbs_clock_does(store: Store, identity: StoreIdentity) -> None:
    ahead = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(hours=1)
    store.database()["ingest.store"].update_one({"_id": "event"}, {"$set": {"at": ahead}})
    store.reserve(identity, (J, 1), BlockBounds(1, 1), 1)
    assert store.watermark().complete_through == ahead
    assert store.settle(identity, [(J, 1)]).complete_through == ahead

"""Rotation while events come in; dumps and their restoration."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import bson
import bson.raw_bson
import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.journal.block import BlockBounds
from ingest.load.loader import LoadResult, load_file
from ingest.store.rotation import RotationError, drop, dump, open_next, rotate, verify
from ingest.store.store import Store
from ingest.wire import bson_element
from ingest.wire.event import MAX_EVENT_BYTES
from tests.support.ingest.running import RunningIngester, sums
from tests.support.waiting import eventually


def send(ingester: RunningIngester, *ids: str) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.send([{"type": "x", "id": id_} for id_ in ids]).accepted == len(ids)


def counts(database: Database[Any]) -> dict[str, int]:
    names = database.list_collection_names(filter={"name": {"$regex": r"^event(\.|$)"}})
    return {name: database[name].count_documents({}) for name in names}


def settled(store: Store, through: int) -> None:
    """Wait until events up to this id can be read; rotation, with majority reads, sees them a moment later."""
    eventually(lambda: store.watermark().through >= through)


def test_rotating_under_load_loses_nothing_and_keeps_order(
    ingester: RunningIngester, store: Store, database: Database[Any], tmp_path: Path
) -> None:
    stop = threading.Event()
    sent: list[str] = []

    def load() -> None:
        while not stop.is_set():
            ids = [f"{len(sent) + n}" for n in range(10)]
            send(ingester, *ids)
            sent.extend(ids)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(3):
            before = store.watermark().through
            eventually(lambda before=before: store.watermark().through > before + 30)
            rotate(store, tmp_path, keep=9)
    finally:
        stop.set()
        thread.join()
    eventually(lambda: counts(database)["event"] == len(sent))
    partitions = store.watermark().partitions
    assert [p.name for p in partitions] == [f"event.{n}" for n in (1, 2, 3, 4)]
    for partition, following in pairwise(partitions):
        ids = [e["_id"] for e in database[partition.name].find({}, {"_id": 1})]
        assert partition.first_id <= min(ids)
        assert max(ids) < following.first_id
        assert "id" in database[partition.name].index_information()


def test_an_id_is_a_duplicate_in_any_partition(
    ingester: RunningIngester, store: Store, database: Database[Any]
) -> None:
    send(ingester, "a")
    settled(store, 1)
    open_next(store)
    send(ingester, "a", "b")
    settled(store, 3)
    open_next(store)
    send(ingester, "a", "b", "c")
    eventually(lambda: sums(database)["duplicates"] == 3)
    assert counts(database) == {"event": 3, "event.1": 1, "event.2": 1, "event.3": 1}


def test_writes_to_a_new_partition_wait_until_older_blocks_are_settled(
    ingester: RunningIngester, store: Store, database: Database[Any]
) -> None:
    send(ingester, "a")
    settled(store, 1)
    identity = store.identity()
    store.reserve(identity, ("another journal", 1), BlockBounds(1, 1), 5)
    open_next(store)
    send(ingester, "b")
    eventually(lambda: len(store.open_blocks()) == 2)
    assert counts(database)["event.2"] == 0
    store.settle(identity, [("another journal", 1)])
    eventually(lambda: counts(database)["event.2"] == 1)


def test_old_partitions_are_dumped_verified_and_dropped_and_can_be_restored(
    ingester: RunningIngester, store: Store, database: Database[Any], tmp_path: Path
) -> None:
    for n in range(3):
        send(ingester, f"{n}a", f"{n}b")
        settled(store, 2 * (n + 1))
        opened, dumps = rotate(store, tmp_path / "dumps", keep=2)
    assert opened.name == "event.4"
    assert [d.path.name for d in dumps] == ["event.2.bson.gz"]
    assert [p.name for p in store.watermark().partitions] == ["event.3", "event.4"]
    assert counts(database) == {"event": 2, "event.3": 2, "event.4": 0}
    assert [p.name for p in sorted((tmp_path / "dumps").iterdir())] == ["event.1.bson.gz", "event.2.bson.gz"]
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        for _ in range(2):
            result = LoadResult()
            load_file(client, tmp_path / "dumps" / "event.1.bson.gz", result)
            assert (result.accepted, result.rejected) == (2, 0)
    eventually(lambda: counts(database)["event"] == 4)
    assert {e["id"] for e in database["event"].find()} == {"0a", "0b", "2a", "2b"}


def test_a_partition_that_a_reader_still_needs_is_kept(
    ingester: RunningIngester, store: Store, database: Database[Any], tmp_path: Path
) -> None:
    send(ingester, "a", "b")
    settled(store, 2)
    with pytest.raises(RotationError, match="has read up to id 1"):
        rotate(store, tmp_path, keep=1, needed_above=1)
    assert counts(database)["event.1"] == 2


def test_a_damaged_dump_is_detected(
    ingester: RunningIngester, store: Store, database: Database[Any], tmp_path: Path
) -> None:
    send(ingester, "a", "b")
    settled(store, 2)
    made = dump(store, store.watermark().partitions[0], tmp_path)
    verify(store, made)
    content = gzip.decompress(made.path.read_bytes())
    made.path.write_bytes(gzip.compress(content.replace(b"a", b"z")))
    with pytest.raises(RotationError, match="is kept"):
        verify(store, made)
    made.path.write_bytes(gzip.compress(content[:-3]))
    with pytest.raises(RotationError, match="ends inside"):
        verify(store, made)


def test_only_the_oldest_of_several_partitions_is_dropped(store: Store, make_event: Callable[[], None]) -> None:
    with pytest.raises(RotationError, match="not the oldest"):
        drop(store, store.watermark().partitions[0])
    with pytest.raises(RotationError, match="still empty"):
        open_next(store)
    make_event()
    opened = open_next(store)
    with pytest.raises(RotationError, match="not the oldest"):
        drop(store, opened)


@pytest.fixture
def make_event(database: Database[Any], store: Store) -> Callable[[], None]:
    def make() -> None:
        database["event.1"].insert_one({"_id": 1, "type": "x"})

    return make


def largest_event() -> bytes:
    """An event of the largest size, which grows when it gets a timestamp, a context and an id."""
    empty = len(bson.encode({"type": "x", "extra": ""}))
    return bson.encode({"type": "x", "extra": "x" * (MAX_EVENT_BYTES - empty)})


def test_a_dump_restores_everything_that_the_store_held(
    ingester: RunningIngester, store: Store, database: Database[Any], tmp_path: Path
) -> None:
    twice = bson.encode({"a": 1})[4:-1]
    inner = bson_element.assembled(twice, twice)
    unusual = [
        {"$command": "event_noval", "type": "nv", "context": {}, "color": "red"},
        {"$command": "event_noval", "context": {"a": 1}, "type": [1, {"$weird": 2}]},
        {"type": "y", "extra": bson.Code("f", {"b": bson.DBRef("c", 1)}), "id": "own"},
        {"type": "y", "context": bson.raw_bson.RawBSONDocument(inner)},
    ]
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.send(map(bson.encode, unusual)).rejected == []
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:  # without an id
        socket.connect(ingester.address("bson"))
        socket.send(largest_event())
    eventually(lambda: counts(database)["event"] == 5)
    deep: dict[str, Any] = {}
    for _ in range(150):  # as ingesters once accepted
        deep = {"a": deep}
    send(ingester, "last")
    eventually(lambda: counts(database)["event"] == 6)
    settled(store, max(event["_id"] for event in database["event"].find({}, {"_id": 1})))
    database["event.1"].update_one({"id": "last"}, {"$set": {"context": deep}})
    before = {raw_without_ids(raw) for raw in raw_events(database)}
    rotate(store, tmp_path, keep=1)
    assert counts(database)["event"] == 0
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        for _ in range(2):
            result = LoadResult()
            load_file(client, tmp_path / "event.1.bson.gz", result)
            assert (result.accepted, result.rejected, result.examples) == (6, 0, [])
    eventually(lambda: sums(database)["duplicates"] == 6)
    assert {raw_without_ids(raw) for raw in raw_events(database)} == before


def raw_events(database: Database[Any]) -> list[bytes]:
    return [raw for batch in database["event"].find_raw_batches({}) for raw in bson_element.split(batch)[0]]


def raw_without_ids(raw: bytes) -> bytes:
    return b"".join(raw[start:end] for name, start, end in bson_element.elements(raw) if name not in (b"_id", b"id"))


def test_a_partition_with_an_event_that_could_not_be_restored_is_kept(
    ingester: RunningIngester, store: Store, database: Database[Any], tmp_path: Path
) -> None:
    send(ingester, "a")
    settled(store, 1)
    database["event.1"].update_one({}, {"$set": {"id": 5}})
    with pytest.raises(RotationError, match="event 1 would be refused"):
        rotate(store, tmp_path, keep=1)
    assert counts(database)["event.1"] == 1


def test_a_failed_rotation_changes_nothing_and_can_be_repeated(
    ingester: RunningIngester, store: Store, database: Database[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(ingester, "a", "b")
    settled(store, 2)
    for folder, needed in ((Path("/dev/null/x"), None), (tmp_path, 1)):
        for keep in (1, 9) if needed is None else (1,):
            with pytest.raises(RotationError):
                rotate(store, folder, keep=keep, needed_above=needed)
    assert [p.name for p in store.watermark().partitions] == ["event.1"]

    def fail(*arguments: Any) -> None:
        raise RotationError("the disk ended")

    with monkeypatch.context() as broken:
        broken.setattr("ingest.store.rotation.dump", fail)
        for _ in range(2):
            with pytest.raises(RotationError, match="the disk ended"):
                rotate(store, tmp_path, keep=1)
    opened, dumps = rotate(store, tmp_path, keep=1)
    assert (opened.name, [d.partition.name for d in dumps]) == ("event.2", ["event.1"])
    assert [p.name for p in store.watermark().partitions] == ["event.2"]
    with pytest.raises(RotationError, match="still empty"):
        rotate(store, tmp_path, keep=1)

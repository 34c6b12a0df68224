"""One block: its events and its verdict are stored together or not at all, and only once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure

from ingest.client import AcknowledgedClient
from ingest.journal.block import BlockBounds
from ingest.store.block_commit import BlockCommit
from ingest.store.block_content import BlockContent, Verdict
from ingest.store.block_release import revoke
from ingest.store.store import Store, connect
from ingest.wire.refusal import Refusal
from tests.support.ingest import bson_shapes as shapes
from tests.support.ingest.running import RunningIngester
from tests.support.waiting import eventually


def test_a_verdict_and_its_events_are_stored_together_or_not_at_all_and_repeating_adds_nothing(
    mongo_uri: str, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(mongo_uri, database.name)
    identity = store.prepare()
    reservation = store.reserve(identity, ("j", 1), BlockBounds(1, 1), 1)
    content = BlockContent([bson.encode({"type": "x"})])
    commits = BlockCommit(store.database())

    def lost(session: ClientSession) -> None:
        session.abort_transaction()
        raise AutoReconnect("the connection broke")

    with monkeypatch.context() as broken:
        broken.setattr(ClientSession, "commit_transaction", lost)
        with pytest.raises(AutoReconnect):
            commits.run(reservation, content, first_try=True)
    assert store.verdicts().count_documents({}) == 0
    assert database["event.1"].count_documents({}) == 0
    for _ in range(2):
        assert commits.run(reservation, content) == Verdict(stored=1)
        assert [event["_id"] for event in database["event.1"].find()] == [reservation.first]
    other = BlockCommit(store.database())
    assert other.run(reservation, content) == Verdict(stored=1), "another process finds the verdict"
    assert database["event.1"].count_documents({}) == 1
    for each in (commits, other):
        each.close()
    store.connection.close()


def test_a_commit_after_its_block_was_released_stores_nothing(mongo_uri: str, database: Database[Any]) -> None:
    """Even if it was under way already and did not search for a verdict first."""
    store = connect(mongo_uri, database.name)
    identity, commits = store.prepare(), BlockCommit(store.database())
    reservation = store.reserve(identity, ("j", 1), BlockBounds(1, 1), 1, session=commits.session_id)
    assert revoke(store, ("j", 1))
    for first_try in (True, False):
        content = BlockContent([bson.encode({"type": "x"})])
        assert commits.run(reservation, content, first_try=first_try) == Verdict(revoked=True)
    assert database["event.1"].count_documents({}) == 0
    following = store.reserve(identity, ("j", 2), BlockBounds(2, 2), 1, session=commits.session_id)
    assert commits.run(following, BlockContent([bson.encode({"type": "x"})]), first_try=True) == Verdict(stored=1)
    commits.close()
    store.connection.close()


@pytest.fixture
def patient_mongod(mongo_client: MongoClient[Any]) -> Iterator[None]:
    """mongod ends unfinished transactions after a minute; in this test it does not."""
    name = "transactionLifetimeLimitSeconds"
    before = mongo_client.admin.command("setParameter", 1, **{name: 100_000})["was"]
    yield
    mongo_client.admin.command("setParameter", 1, **{name: before})


@pytest.mark.usefixtures("patient_mongod")
def test_releasing_a_block_ends_the_unfinished_transaction_of_a_dead_ingester(
    mongo_uri: str, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(mongo_uri, database.name)
    identity, gone = store.prepare(), BlockCommit(store.database())
    reservation = store.reserve(identity, ("j", 1), BlockBounds(1, 1), 1, session=gone.session_id)
    content = BlockContent([bson.encode({"type": "x", "id": "the one"})], ids={0: "the one"})

    def dies(session: ClientSession) -> None:
        raise AutoReconnect("the rest of the transaction is never sent")

    with monkeypatch.context() as broken:
        broken.setattr(ClientSession, "commit_transaction", dies)
        broken.setattr(ClientSession, "abort_transaction", lambda session: None)
        with pytest.raises(AutoReconnect):
            gone.run(reservation, content, first_try=True)
    assert revoke(store, ("j", 1))
    others = BlockCommit(store.database())
    again = store.reserve(identity, ("other", 1), BlockBounds(1, 1), 1, session=others.session_id)
    assert others.run(again, content, first_try=True) == Verdict(stored=1)
    assert [event["_id"] for event in database["event.1"].find()] == [again.first]
    for commits in (gone, others):
        commits.close()
    store.connection.close()


def _unreadable() -> list[bytes]:
    """Return events for which MongoDB rejects the whole command; only a receiver without checks would accept them."""
    start = shapes.element(2, "type", shapes.string("x"))
    return [
        shapes.document(start, shapes.element(3, "extra", shapes.references(250))),
        shapes.document(start, shapes.element(0x0F, "extra", shapes.scoped(150))),
        shapes.document(start, shapes.element(8, "extra", b"\x02")),
    ]


def test_documents_that_make_mongodb_reject_the_whole_block_are_singled_out_and_the_rest_is_stored(
    mongo_uri: str, database: Database[Any]
) -> None:
    store = connect(mongo_uri, database.name)
    good, bad = [bson.encode({"type": "x", "n": n, "id": f"{n}"}) for n in range(10)], _unreadable()
    events = [*good[:3], bad[0], *good[3:8], bad[1], bad[2], *good[8:]]
    content = BlockContent(events, ids={index: f"{good.index(e)}" for index, e in enumerate(events) if e in good})
    reservation = store.reserve(store.prepare(), ("j", 1), BlockBounds(1, 1), len(events))
    commits = BlockCommit(store.database())
    assert commits.run(reservation, content, first_try=True) == Verdict(stored=10, quarantined=3)
    assert sorted(event["n"] for event in database["event.1"].find()) == list(range(10))
    kept = {entry["raw"]: entry for entry in database["quarantine"].find()}
    assert set(kept) == set(bad)
    assert {entry["code"] for entry in kept.values()} == {"refused_by_store"}
    assert all("MongoDB:" in entry["message"] and len(entry["message"]) < 600 for entry in kept.values())
    commits.close()
    store.connection.close()


def test_a_block_waits_while_mongodb_refuses_everything_under_any_code(
    mongo_uri: str, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(mongo_uri, database.name)
    reservation = store.reserve(store.prepare(), ("j", 1), BlockBounds(1, 1), 1)
    content = BlockContent([bson.encode({"type": "x"})])
    commits = BlockCommit(store.database())

    def refuse(*args: Any, **named: Any) -> None:
        raise OperationFailure("no command is read", 22)

    with monkeypatch.context() as broken:
        broken.setattr(Database, "command", refuse)
        with pytest.raises(OperationFailure):
            commits.run(reservation, content, first_try=True)
    assert commits.run(reservation, content) == Verdict(stored=1)
    assert database["quarantine"].count_documents({}) == 0
    commits.close()
    store.connection.close()


def test_a_commit_whose_answer_was_lost_is_found_by_its_verdict(
    ingester: RunningIngester, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, lost = ClientSession.commit_transaction, []

    def commits_and_is_not_heard(session: ClientSession) -> None:
        commit(session)
        if not lost:
            lost.append(session)
            raise AutoReconnect("the connection broke before the answer came")

    monkeypatch.setattr(ClientSession, "commit_transaction", commits_and_is_not_heard)
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.send([{"type": "x", "id": "1"}, {"type": "x"}]).accepted == 2
    counts = ingester.ingester.counters.counts
    eventually(lambda: counts().settled == 2)
    assert (len(lost), counts().stored, counts().duplicates) == (1, 2, 0)
    assert database["event.1"].count_documents({}) == 2


def refused(delivery: str, **fields: Any) -> dict[str, Any]:
    return Refusal("bad_type", "m", b"raw", delivery=delivery).to_document("ack", datetime.now(UTC)) | fields


def committed(store: Store, commits: BlockCommit, number: int, refusals: list[dict[str, Any]]) -> Verdict:
    """Commit refusals as block `number` and return its verdict."""
    reservation = store.reserve(store.prepare(), ("j", number), BlockBounds(number, number), 1)
    count = sum(refusal.get("count", 1) for refusal in refusals)
    content = BlockContent(refusals=list(map(bson.encode, refusals)), refused_count=count)
    return commits.run(reservation, content, first_try=True)


def test_refusals_of_a_request_that_was_sent_again_count_as_duplicates(mongo_uri: str, database: Database[Any]) -> None:
    store = connect(mongo_uri, database.name)
    commits = BlockCommit(store.database())
    once = [refused("a.0"), refused("a.1", count=5), refused("")]
    assert committed(store, commits, 1, once) == Verdict(quarantined=7)
    assert committed(store, commits, 2, [*once, refused("b.0")]) == Verdict(quarantined=2, duplicates=6)
    assert committed(store, commits, 3, [refused("c.0", count=2)] * 3) == Verdict(quarantined=2, duplicates=4)
    kept = [(entry["_id"]["s"], entry["_id"]["i"], entry.get("delivery")) for entry in database["quarantine"].find()]
    assert sorted(kept, key=str) == sorted(
        [(1, 0, "a.0"), (1, 1, "a.1"), (1, 2, None), (2, 2, None), (2, 3, "b.0"), (3, 0, "c.0")], key=str
    )
    commits.close()
    store.connection.close()


def test_a_refusal_that_another_ingester_stores_meanwhile_is_looked_up_again(
    mongo_uri: str, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(mongo_uri, database.name)
    commits, other = BlockCommit(store.database()), BlockCommit(store.database())
    look_up = BlockCommit._look_up_refusals
    looked: list[bool] = []

    def stored_after_the_first(self: BlockCommit, content: BlockContent) -> None:
        look_up(self, content)
        if self is commits and not looked:
            looked.append(True)
            assert committed(store, other, 2, [refused("a.0")]) == Verdict(quarantined=1)

    monkeypatch.setattr(BlockCommit, "_look_up_refusals", stored_after_the_first)
    assert committed(store, commits, 1, [refused("a.0"), refused("a.1")]) == Verdict(quarantined=1, duplicates=1)
    assert sorted(entry["delivery"] for entry in database["quarantine"].find()) == ["a.0", "a.1"]
    for each in (commits, other):
        each.close()
    store.connection.close()

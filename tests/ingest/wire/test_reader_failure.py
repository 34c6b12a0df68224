"""Input on which our own code fails is kept and logged and stops nothing; a part that still fails ends the process."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import bson
import pytest
import zmq
from bson.dbref import DBRef
from bson.errors import InvalidBSON
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.log_limit import LogLimit
from ingest.settings import IngestSettings
from ingest.transport.notice import NOTICES
from ingest.wire import bson_document, bson_reader, json_reader, reader_failure
from ingest.wire.ack_request import read_request, refusals
from ingest.wire.batch import ReceivedBatch
from ingest.wire.bson_element import elements, has_element
from ingest.wire.command_check import REFUSED
from ingest.wire.event import MAX_DEPTH, MAX_EVENT_BYTES, describe_value
from tests.support.ingest import bson_shapes as shapes
from tests.support.ingest.bson_shapes import shaped, shaped_request
from tests.support.ingest.running import RunningIngester, sums
from tests.support.waiting import eventually

NOW_MS = 1_700_000_000_000
START = shapes.element(2, "type", shapes.string("x"))


def read(*messages: bytes) -> ReceivedBatch:
    batch = ReceivedBatch("bson", NOTICES | {REFUSED})
    bson_reader.read_messages(messages, batch, NOW_MS)
    return batch


def deep(depth: int, kind: int) -> bytes:
    """Return an event that is nested `depth` deep, itself included."""
    value = shapes.references(depth - 1) if kind == 3 else shapes.scoped(depth)
    return shapes.document(START, shapes.element(kind, "extra", value))


def outcome(step: Callable[[], bool]) -> bool | str:
    try:
        return step()
    except InvalidBSON as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3))
def test_searching_one_element_finds_the_same_as_listing_all(seed: int, changes: int) -> None:
    """An event whose `id` is overlooked would be stored twice when it is sent again."""
    chance = random.Random(seed)
    raw = bytearray(shapes.almost_event(chance))
    for _ in range(changes):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    for name in (b"id", b"type", b"extra", b""):
        expected = outcome(lambda name=name: any(found == name for found, _, _ in elements(bytes(raw))))
        assert outcome(lambda name=name: has_element(bytes(raw), name)) == expected


@pytest.mark.parametrize("kind", [0x03, 0x0F], ids=["references", "scopes of code"])
def test_depth_is_counted_through_references_and_scopes_of_code(kind: int) -> None:
    assert [r.code for r in read(deep(MAX_DEPTH, kind)).refusals] == []
    for depth in (MAX_DEPTH + 1, 250, 900):
        assert [r.code for r in read(deep(depth, kind)).refusals] == ["nested_too_deep"], depth


def test_depth_is_counted_in_what_a_later_element_of_the_same_name_hides() -> None:
    hidden = shapes.element(3, "a", shapes.references(200)) + shapes.element(10, "a", b"")
    raw = shapes.document(START, shapes.element(3, "extra", shapes.document(hidden)))
    assert [r.code for r in read(raw).refusals] == ["nested_too_deep"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("$command", bson.Code("x")),
        ("$command", bson.Code("event_noval", {"a": 1})),
        ("$command", [1]),
        ("$command", DBRef("a", DBRef("b", 1))),
        ("type", DBRef("a", 1)),
        ("id", bson.Code("x", {})),
    ],
)
def test_a_value_of_an_unusual_type_is_refused_and_its_neighbours_are_not(name: str, value: Any) -> None:
    good = bson.encode({"type": "x"})
    batch = read(good, bson.encode({"type": "x"} | {name: value}), good)
    assert len(batch.events) == 2
    assert [r.code for r in batch.refusals] == [{"$command": "unknown_command"}.get(name, f"bad_{name}")]


@pytest.mark.parametrize("name", ["type", "context", "timestamp", "extra", "id"])
@pytest.mark.parametrize("complete", [True, False])
def test_a_repeated_field_is_refused(name: str, complete: bool) -> None:
    fields = {
        "timestamp": shapes.element(9, "timestamp", shapes.LONG(NOW_MS)) if complete else b"",
        "type": START,
        "context": shapes.element(3, "context", shapes.document()) if complete else b"",
        "extra": b"",
        "id": b"",
    }
    last = {"extra": shapes.element(10, "extra", b""), "id": shapes.element(2, "id", shapes.string("a"))} | fields
    twice = shapes.element(0x10, name, shapes.INT(5)) + (last[name] or shapes.element(10, name, b""))
    if name in ("timestamp", "context") and not complete:
        twice = (
            shapes.element(0x10, name, shapes.INT(5))
            + {
                "timestamp": shapes.element(9, "timestamp", shapes.LONG(NOW_MS)),
                "context": shapes.element(3, "context", shapes.document()),
            }[name]
        )
    if name in ("extra", "id"):
        end = {"extra": shapes.element(10, "extra", b""), "id": shapes.element(2, "id", shapes.string("a"))}[name]
        twice = shapes.element(0x10, name, shapes.INT(5)) + end
    batch = read(shapes.document(*(twice if name == each else value for each, value in fields.items())))
    assert [r.code for r in batch.refusals] == ["bad_id" if name == "id" else "repeated_field"]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_documents_read_together_are_checked_like_each_alone(seed: int, with_id: bool) -> None:
    """Similar documents are checked all at once, even if a few of them are bad."""
    chance = random.Random(seed)
    raws = [alike(chance, n, with_id, odd=chance.random() < 0.1) for n in range(chance.randrange(6, 14))]
    together, alone = read(*raws), [read(raw) for raw in raws]
    assert together.events == [event for each in alone for event in each.events]
    ids = [id_ for each in alone for id_ in each.ids or [None] * len(each.events)]
    assert together.ids == (ids if any(ids) else [])
    assert [refusal.code for refusal in together.refusals] == [r.code for each in alone for r in each.refusals]
    in_one_message = ReceivedBatch("ack")
    bson_reader.read_message(b"".join(raws), in_one_message, NOW_MS)
    assert (in_one_message.events, in_one_message.ids) == (together.events, together.ids)


def alike(chance: random.Random, number: int, with_id: bool, *, odd: bool) -> bytes:
    """Return a complete event; an odd one has a field that is repeated, bad, renamed, missing, or large."""
    fields = {
        "timestamp": shapes.element(9, "timestamp", shapes.LONG(NOW_MS)),
        "type": START,
        "context": shapes.element(3, "context", shapes.document(shapes.element(2, "user", shapes.string("celery")))),
        "extra": shapes.element(0x10, "extra", shapes.INT(number)),
    } | ({"id": shapes.element(2, "id", shapes.string(f"{number}"))} if with_id else {})
    if odd:
        name = chance.choice(list(fields))
        fields[name] = chance.choice(
            (
                fields[name] + fields[name],
                shapes.element(0x10, name, shapes.INT(5)) + fields[name],
                shapes.element(0x10, name, shapes.INT(5)),
                shapes.element(2, name, shapes.string("")),
                shapes.element(2, name, shapes.string("x" * 300)),
                shapes.element(2, name, shapes.string("x" * 1000)),
                shapes.element(3, name, shapes.document(fields[name])),
                shapes.element(2, "other", shapes.string("x")),
                fields[name] + shapes.element(2, "other", shapes.string("x")),
                shapes.element(3, name, shapes.references(MAX_DEPTH)),
                b"",
            )
        )
    return shapes.document(*fields.values())


def test_field_names_can_be_part_of_nested_names() -> None:
    inner = {"type": "a", "user_id": "b", "id": "c", "timestamp": 1, "subtype": {"context": 1, "extra": 2}}
    event = {"type": "x", "context": inner, "id": "1", "extra": inner}
    stamped = {"timestamp": bson.decode(shapes.document(shapes.element(9, "t", shapes.LONG(0))))["t"]} | event
    assert len(read(bson.encode(event), bson.encode(stamped)).events) == 2


def test_values_of_any_kind_are_described_in_few_characters() -> None:
    deep_one: Any = 1
    for _ in range(5000):
        deep_one = DBRef("a", deep_one)
    for value in (
        deep_one,
        "x" * 10**6,
        b"x" * 10**6,
        10**50,
        {"a": "x" * 10**6},
        bson.Code("x" * 1000),
        bson.Code("x", {"a": deep_one}),
    ):
        assert len(describe_value(value)) < 100


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_bson_type_in_every_place_is_read_without_a_failure(chance: random.Random) -> None:
    read_shapes(chance, 10)


@pytest.mark.long
def test_a_million_documents_of_every_bson_type_are_read_without_a_failure() -> None:
    for seed in range(1_000):
        read_shapes(random.Random(seed), 500)


def read_shapes(chance: random.Random, count: int) -> None:
    """Read batches and requests of any types: each document is accepted, refused or a command, and the store can
    hold what is accepted."""
    messages = [shaped(chance) for _ in range(count)]
    batch = read(*messages)
    documents = sum(len(bson_reader.split(message)[0]) for message in messages)
    assert len(batch.events) + len(batch.refusals) + len(batch.commands) == documents
    assert "reader_failed" not in {refusal.code for refusal in batch.refusals}
    for raw in batch.events:
        document = bson.decode(raw)
        assert len(raw) <= MAX_EVENT_BYTES + 33
        assert "_id" not in document
        assert type(document.get("id", "")) is str
    for refusal in refusals(batch.commands):
        assert bson.encode(refusal.to_document("ack", None))
    for number in range(count):
        request = read_request([b"route", *shaped_request(chance, number)])
        assert request is not None
        assert type(request.source) is str


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the checks fail on events of type `poison`, like an error in our code."""
    sound = bson_document.fault_of

    def fault_of(document: Any, raw: bytes, **named: Any) -> Any:
        if document.get("type") == "poison":
            raise KeyError("a fault of ours")
        return sound(document, raw, **named)

    monkeypatch.setattr(bson_document, "fault_of", fault_of)
    monkeypatch.setattr(json_reader, "fault_of", fault_of)
    monkeypatch.setattr(reader_failure, "_log_limit", LogLimit(reader_failure.LOG_EVERY_S))


def test_input_on_which_our_own_code_fails_is_kept_and_logged_once_and_stops_nothing(
    failing: None, ingester: RunningIngester, database: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    good, poison = bson.encode({"type": "good"}), bson.encode({"type": "poison"})
    caplog.set_level(logging.ERROR)
    with zmq.Context() as context:
        for receiver, message in (("bson", good + poison + good), ("json", b'{"type":"good"}\n{"type":"poison"}')):
            with context.socket(zmq.PUSH) as socket:
                socket.connect(ingester.address(receiver))
                socket.send(message)
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        receipt = client.send([{"type": "good"}, {"type": "poison", "id": "p"}, {"type": "good"}])
    assert (receipt.accepted, [(r["index"], r["code"]) for r in receipt.rejected]) == (2, [(1, "reader_failed")])
    eventually(lambda: database["event"].count_documents({"type": "good"}) == 5)
    kept = eventually(lambda: (found := list(database["quarantine"].find())) and len(found) == 3 and found)
    assert {(q["code"], q["source"]) for q in kept} == {
        ("reader_failed", receiver) for receiver in ("bson", "json", "ack")
    }
    assert {q["raw"] for q in kept} >= {poison, b'{"type":"poison"}'}
    assert sum("a fault of ours" in str(record.exc_info) for record in caplog.records) == 1


@pytest.mark.parametrize("where", ["read_messages", "read_message"])
def test_a_failure_outside_any_document_keeps_the_whole_message(
    where: str, ingester: RunningIngester, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = getattr(bson_reader, where)

    def read_and_fail(given: Any, *rest: Any) -> None:
        sound(given, *rest)
        if b"poison" in (given if isinstance(given, bytes) else b"".join(given)):
            raise MemoryError("a fault of ours")

    monkeypatch.setattr(bson_reader, where, read_and_fail)
    good, poison = bson.encode({"type": "good"}), bson.encode({"type": "poison"})
    if where == "read_messages":
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.connect(ingester.address("bson"))
            socket.send(good)
            socket.send(poison)
        eventually(lambda: database["event"].count_documents({"type": "poison"}) == 1, what="read again by itself")
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        rejected = client.send([poison]).rejected
        assert [r["code"] for r in rejected] == (["reader_failed"] if where == "read_message" else [])
        assert client.send([good]).accepted == 1
    good_count = 2 if where == "read_messages" else 1
    eventually(lambda: database["event"].count_documents({"type": "good"}) == good_count)
    eventually(lambda: sum(sums(database).values()) == ingester.ingester.counters.counts().received)


def test_a_refused_frame_of_a_request_is_kept_and_the_receiver_continues(
    ingester: RunningIngester, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise TypeError("a fault of ours")

    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(ingester.address("ack"))
        with monkeypatch.context() as broken:
            broken.setattr("ingest.server.receivers.read_request", fail)
            socket.send_multipart([b"1", b"frames"])
            eventually(
                lambda: database["quarantine"].count_documents({"code": "reader_failed", "raw": b"1frames"}) == 1
            )
        socket.send_multipart([b"2", bson.encode({"type": "x"})])
        assert socket.poll(60_000)
        assert bson.decode(socket.recv_multipart()[1])["accepted"] == 1
    eventually(lambda: database["event"].count_documents({}) == 1)


def test_a_pushed_message_of_65_mib_is_counted_and_kept_as_a_hash(
    ingester: RunningIngester, database: Database[Any]
) -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(ingester.address("bson"))
        socket.send(bytes(65 * 2**20))
        socket.send(bson.encode({"type": "good"}))
        eventually(lambda: database["event"].count_documents({"type": "good"}) == 1)
    kept = eventually(lambda: database["quarantine"].find_one({"code": "oversized_message"}))
    assert kept["bytes"] == 65 * 2**20
    assert len(kept["sha256"]) == 64
    assert "raw" not in kept


@pytest.mark.parametrize("part", ["a receiver", "the journal writer", "an inserter"])
def test_a_part_that_fails_ends_the_ingester_and_accepted_events_are_kept(
    part: str,
    time_to_commit: None,
    start_ingester: Callable[..., RunningIngester],
    ingest_settings: IngestSettings,
    database: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = start_ingester(ingest_settings)
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.send([{"type": "before", "id": "1"}])

    def fail(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as broken:
        where = {
            "a receiver": (running.ingester._receivers, "_handle_request"),
            "the journal writer": (running.ingester.writer, "_persist"),
            "an inserter": (running.ingester.committer, "_commit"),
        }[part]
        broken.setattr(*where, fail)
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.connect(running.address("ack"))
            socket.send_multipart([b"1", bson.encode({"type": "during", "id": "2"})])
            running.wait_until_it_ends()
            socket.close(linger=0)
    assert running.failure is not None
    assert part in str(running.failure)
    if part == "an inserter":
        start_ingester(ingest_settings)
        eventually(lambda: database["event"].count_documents({"id": "2"}) == 1)
    else:
        assert database["event"].count_documents({"id": "1"}) == 1

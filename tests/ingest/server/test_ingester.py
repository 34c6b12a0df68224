"""A whole ingester with real sockets, a real journal and a real mongod."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import bson
import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient, ZarkovClient
from ingest.exceptions import BindError, BusyError, DeliveryError, QueueFullError
from ingest.journal.block import Block
from ingest.server.receivers import Receivers
from ingest.settings import IngestSettings
from ingest.store.block_content import BlockContent
from ingest.store.store import connect
from ingest.transport import notice
from ingest.wire.ack_request import refused_document
from ingest.wire.refusal import Refusal
from tests.support.durations import assert_within, seconds
from tests.support.ingest.running import RunningIngester, Start, events, sums, types
from tests.support.waiting import eventually


def test_a_bson_event_is_stored_with_defaults_for_missing_fields(
    ingester: RunningIngester, database: Database[Any], push: Callable[..., None]
) -> None:
    push(ingester.address("bson"), bson.encode({"type": "nop"}))
    found = eventually(lambda: events(database))
    assert list(found[0]) == ["_id", "timestamp", "type", "context"]
    assert (found[0]["_id"], found[0]["type"], found[0]["context"]) == (1, "nop", {})


def test_all_receivers_store_events_in_the_same_store(
    ingester: RunningIngester, database: Database[Any], push: Callable[..., None]
) -> None:
    push(ingester.address("bson"), bson.encode({"type": "a"}) + bson.encode({"type": "b"}))
    push(ingester.address("bson"), [b"a key", bson.encode({"type": "keyed"})])
    push(ingester.address("json"), b'{"type": "c"}\n{"type": "d", "timestamp": {"$datetime": 0}}')
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert client.event("e", {}).accepted == 1
    with ZarkovClient(ingester.address("bson"), timeout_s=20) as plain:
        plain.event("f", {"sample_context_key": "sample_context_val"})
        plain.event_noval("g", {}, extra=1)
    eventually(lambda: len(events(database)) == 8)
    assert sorted(types(database)) == ["a", "b", "c", "d", "e", "f", "g", "keyed"]
    assert sorted(e["_id"] for e in events(database)) == list(range(1, 9))


def test_an_acknowledged_event_is_on_disk_and_soon_readable(
    ingester: RunningIngester, database: Database[Any], mongo_uri: str
) -> None:
    store = connect(mongo_uri, database.name)
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.event("first", {})
        eventually(lambda: events(database))
        numbers = itertools.count(2)

        def readable() -> None:
            number = next(numbers)
            client.event("x", {})
            eventually(lambda: store.watermark().through == number)

        assert_within(0.2, lambda: seconds(readable), tries=1, rounds=50)
    store.connection.close()


def test_rejected_events_are_listed_and_kept_in_quarantine(
    ingester: RunningIngester, database: Database[Any], push: Callable[..., None]
) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        receipt = client.send([{"type": "a"}, {"typ": "b"}, {"type": "c"}])
    assert receipt.accepted == 2
    assert [(r["index"], r["code"]) for r in receipt.rejected] == [(1, "unknown_field")]
    push(ingester.address("json"), b"nonsense")
    kept = eventually(lambda: (found := list(database["quarantine"].find())) and len(found) == 2 and found)
    assert {(q["code"], q["source"]) for q in kept} == {("unknown_field", "ack"), ("bad_json", "json")}
    assert {q["raw"] for q in kept} >= {b"nonsense"}
    eventually(lambda: len(events(database)) == 2)


def test_input_that_another_receiver_refused_is_kept_under_its_name(
    ingester: RunningIngester, database: Database[Any], push: Callable[..., None]
) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20, source="http") as client:
        client.refuse([Refusal("bad_json", "not JSON", b"{oops"), Refusal("no such code", "", b"")])
        assert client.send([{"typ": "b"}, {"type": "a"}]).rejected[0]["index"] == 0
    push(ingester.address("bson"), refused_document(Refusal("bad_json", "", b"forged")))
    kept = eventually(lambda: (found := list(database["quarantine"].find())) and len(found) == 4 and found)
    from_http = {("bad_json", "http"), ("unknown_field", "http"), ("bad_command", "http")}
    assert {(q["code"], q["source"]) for q in kept} >= from_http
    assert b"{oops" in {q["raw"] for q in kept}
    assert [q["code"] for q in kept if q["source"] == "bson"] == ["unknown_command"]
    eventually(lambda: len(events(database)) == 1)


def test_input_whose_answer_is_lost_is_quarantined_once_when_it_is_sent_again(
    ingester: RunningIngester, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = Receivers._reply
    lost: list[Any] = []

    def lose_every_other(self: Receivers, envelope: Sequence[bytes], answer: dict[str, Any]) -> None:
        lost.append(answer)
        if len(lost) % 2 == 0:
            reply(self, envelope, answer)

    monkeypatch.setattr(Receivers, "_reply", lose_every_other)
    bad = [{"type": "x", "n": n} for n in range(50)]
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=1, attempts=9) as client:
        assert client.send([*bad, {"type": "good"}]).accepted == 1
        client.refuse([Refusal("bad_json", "not JSON", b"{oops")] * 2)
    assert len(lost) == 4
    eventually(lambda: sums(database) == {"stored": 1, "duplicates": 53, "quarantined": 52})
    kept = list(database["quarantine"].find())
    assert sum(entry.get("count", 1) for entry in kept) == 52
    assert [entry["raw"] for entry in kept if entry["code"] == "bad_json"] == [b"{oops"] * 2


def test_input_without_ids_that_is_alike_is_quarantined_each_time(
    ingester: RunningIngester, database: Database[Any]
) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(ingester.address("ack"))
        for number in range(2):
            dealer.send_multipart([bytes([number]), bson.encode({"typ": "x"})])
            assert dealer.poll(60_000)
            dealer.recv_multipart()
    eventually(lambda: sums(database)["quarantined"] == 2)
    assert database["quarantine"].count_documents({"delivery": {"$exists": False}}) == 2


def test_a_short_request_is_answered_while_a_long_one_of_another_sender_is_read_and_none_of_the_same(
    ingester: RunningIngester, database: Database[Any]
) -> None:
    long = bson.encode({"typ": "x"}) * 99_999
    with zmq.Context() as context, context.socket(zmq.DEALER) as one, context.socket(zmq.DEALER) as other:
        for socket in (one, other):
            socket.linger = 0
            socket.connect(ingester.address("ack"))
            socket.send_multipart([b"warm", bson.encode({"type": "warm"})])
            assert socket.poll(60_000) and socket.recv_multipart()[0] == b"warm"
        one.send_multipart([b"long", long])
        one.send_multipart([b"after it", bson.encode({"type": "after"})])
        overtook = 0
        while not one.poll(0):
            other.send_multipart([b"short", bson.encode({"type": "short"})])
            assert other.poll(60_000) and other.recv_multipart()[0] == b"short"
            overtook += not one.poll(0)
        assert overtook >= 2
        assert [one.recv_multipart()[0] for _ in range(2) if one.poll(60_000)] == [b"long", b"after it"]
    eventually(lambda: sums(database)["quarantined"] == 99_999)


def test_a_short_request_is_found_behind_the_long_ones_of_many_senders(ingester: RunningIngester) -> None:
    bad = bson.encode({"context": {}}) * 10_000
    with zmq.Context() as context, context.socket(zmq.DEALER) as good, ExitStack() as stack:
        senders = [stack.enter_context(context.socket(zmq.DEALER)) for _ in range(40)]
        for socket in (good, *senders):
            socket.linger = 0
            socket.connect(ingester.address("ack"))
            socket.send_multipart([b"warm", bson.encode({"type": "warm"})])
            assert socket.poll(60_000) and socket.recv_multipart()[0] == b"warm"
        for number in range(2):
            for sender in senders:
                sender.send_multipart([b"%d" % number, bad])
        eventually(lambda: any(sender.poll(0) for sender in senders))
        good.send_multipart([b"short", bson.encode({"type": "short"})])
        assert good.poll(60_000)
        assert sum(sender.poll(0) > 0 for sender in senders) < 20


def test_the_verdicts_account_for_all_input(
    ingester: RunningIngester, database: Database[Any], push: Callable[..., None]
) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        for _ in range(3):
            client.send([{"type": "a", "id": "1"}, {"type": "a", "id": "1"}, {"type": "b"}, {}])
    eventually(lambda: len(events(database)) == 4)

    eventually(lambda: sums(database) == {"stored": 4, "duplicates": 5, "quarantined": 3})
    counters = ingester.ingester.counters
    eventually(lambda: counters.counts().pending == 0)
    counts = counters.counts()
    assert (counts.received, counts.stored, counts.duplicates, counts.quarantined) == (12, 4, 5, 3)


def test_one_id_is_stored_once_through_any_receivers(
    ingester: RunningIngester, database: Database[Any], push: Callable[..., None]
) -> None:
    for _ in range(5):
        push(ingester.address("bson"), bson.encode({"type": "a", "id": "same"}))
        push(ingester.address("json"), b'{"type": "a", "id": "same"}')
    eventually(lambda: sums(database)["duplicates"] == 9)
    assert len(events(database)) == 1


def test_notices_report_what_can_be_read_and_those_of_aggregates_are_forwarded(
    ingester: RunningIngester, push: Callable[..., None]
) -> None:
    subscription = notice.Subscription(ingester.address("publish"))
    found: list[dict[str, Any]] = []

    def received(command: str) -> bool:
        push(ingester.address("bson"), notice.agg_complete("daily", 7, 3), bson.encode({"type": "x"}))
        while got := subscription.receive(0.05):
            found.append(got)
        return any(n["$command"] == command for n in found)

    eventually(lambda: received("agg_complete") and received("committed"))
    assert {"$command": "agg_complete", "name": "daily", "through": 7, "docs": 3} in found
    committed = [n for n in found if n["$command"] == "committed"]
    assert [n["through"] for n in committed] == sorted(n["through"] for n in committed)
    assert all(n["count"] > 0 for n in committed)
    subscription.close()


def test_a_malformed_notice_is_kept_in_quarantine_and_not_published(
    ingester: RunningIngester, database: Database[Any], push: Callable[..., None]
) -> None:
    poison = bson.encode({"$command": "agg_complete", "name": ["x"]})
    subscription = notice.Subscription(ingester.address("publish"))
    found: list[dict[str, Any]] = []

    def published() -> bool:
        push(ingester.address("bson"), poison, notice.agg_complete("daily", 7, 3))
        while got := subscription.receive(0.05):
            found.append(got)
        return any(n["$command"] == "agg_complete" for n in found)

    eventually(published)
    kept = eventually(lambda: list(database["quarantine"].find()))
    assert {(q["code"], q["raw"]) for q in kept} == {("bad_command", poison)}
    assert "name of agg_complete is list" in kept[0]["message"]
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        assert [r["code"] for r in client.send([bson.decode(poison)]).rejected] == ["bad_command"]
    assert all(n["name"] == "daily" for n in found if n["$command"] == "agg_complete")
    subscription.close()


def test_an_address_in_use_is_named(ingester: RunningIngester, start_ingester: Start) -> None:
    settings = dataclasses.replace(ingester.ingester.settings, json_bind_address=ingester.address("json"))
    with pytest.raises(BindError, match="json_bind_address"):
        start_ingester(settings)


def test_an_ingester_can_be_stopped_twice_and_at_once(start_ingester: Start, ingest_settings: IngestSettings) -> None:
    running = start_ingester(ingest_settings)
    running.ingester.request_stop()
    running.stop()
    running.stop()


def test_a_clock_that_jumps_changes_timestamps_and_nothing_else(
    start_ingester: Start, ingest_settings: IngestSettings, mongo_uri: str, database: Database[Any]
) -> None:
    now = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    times = [now, now - dt.timedelta(days=400), now + dt.timedelta(days=4000), now]
    clock = iter(times)
    running = start_ingester(ingest_settings, clock_ms=lambda: int(next(clock).timestamp() * 1000))
    store = connect(mongo_uri, database.name)
    store.prepare()
    with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        for n in range(1, 5):
            client.event(str(n), {})
            eventually(lambda n=n: store.watermark().through == n)
    assert types(database) == ["1", "2", "3", "4"]
    assert [e["timestamp"] for e in events(database)] == times
    assert abs(store.watermark().complete_through - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
    store.connection.close()


def test_a_document_that_mongodb_refuses_is_quarantined_and_stops_nothing_else(
    ingester: RunningIngester, database: Database[Any]
) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.event("first", {})
        eventually(lambda: events(database))
        database.command("collMod", "event.1", validator={"extra": {"$ne": "poison"}})
        client.send([{"type": "a"}, {"type": "b", "extra": "poison"}, {"type": "c"}, {"type": "d", "extra": "poison"}])
        eventually(lambda: types(database) == ["first", "a", "c"])
    kept = list(database["quarantine"].find())
    assert [q["code"] for q in kept] == ["refused_by_store"] * 2
    assert [bson.decode(q["raw"])["type"] for q in kept] == ["b", "d"]


def test_an_unexpected_error_in_a_block_ends_no_inserter(
    start_ingester: Start, ingest_settings: IngestSettings, database: Database[Any], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    faults, read = [TypeError("unforeseen")] * 5, BlockContent.of

    def of(block: Block) -> BlockContent:
        if faults:
            raise faults.pop()
        return read(block)

    monkeypatch.setattr(BlockContent, "of", of)
    with AcknowledgedClient(
        start_ingester(ingest_settings).address("ack"), connect_timeout_s=20, timeout_s=20
    ) as client:
        client.send([{"type": "a"}, {"type": "b"}])
    eventually(lambda: types(database) == ["a", "b"])
    assert "unforeseen" in caplog.text


def test_a_client_with_a_wrong_address_fails_in_time() -> None:
    with (
        AcknowledgedClient("tcp://127.0.0.1:1", connect_timeout_s=0.1) as client,
        pytest.raises(DeliveryError, match="no ingester listens") as caught,
    ):
        client.event("x", {})
    assert not isinstance(caught.value, BusyError)
    assert len(caught.value.data["unsent"]) == 1
    with (
        ZarkovClient("tcp://127.0.0.1:1", timeout_s=0.1) as plain,
        pytest.raises(QueueFullError, match="is an ingester running"),
    ):
        plain.event("x", {})


def test_many_requests_are_under_way_at_once_and_stay_in_order(
    ingester: RunningIngester, database: Database[Any]
) -> None:
    sent: list[dict[str, Any]] = [{"type": str(n)} if n % 50 else {} for n in range(1_000)]
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20, request_events=7) as client:
        receipt = client.send(sent)
    assert receipt.accepted == 980
    assert [r["index"] for r in receipt.rejected] == list(range(0, 1_000, 50))
    eventually(lambda: len(events(database)) == 980)
    assert types(database) == [event["type"] for event in sent if event]


def test_many_threads_can_share_one_client(ingester: RunningIngester, database: Database[Any]) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        threads = [threading.Thread(target=lambda: [client.event("x", {}) for _ in range(20)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    eventually(lambda: len(events(database)) == 160)

"""Messages that take long to read: other senders are served meanwhile, memory is bounded, and every document counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import gevent
import pytest
import zmq
from pymongo.database import Database

from ingest import turn as turn_module
from ingest.client import AcknowledgedClient
from ingest.server.loop_turn import loop_turn
from ingest.store.ingester_report import summarize
from ingest.store.store import Store, connect
from tests.support.durations import assert_within, seconds
from tests.support.ingest.running import RunningIngester, sums
from tests.support.ingest.separate import SeparateIngester
from tests.support.waiting import eventually

pytestmark = pytest.mark.early

MIB = 2**20
MOST_S = 2.5  # the first of these messages used to take 10 s on a machine with nothing else to do
MOST_MIB = 260  # to read, journal and commit a message of 16 MiB
EMPTY = bson.encode({})


@pytest.fixture
def separate(mongo_uri: str, database: Database[Any], tmp_path: Path) -> Iterator[SeparateIngester]:
    started = SeparateIngester(mongo_uri, database.name, tmp_path)
    yield started
    started.stop()


@pytest.fixture
def looking(mongo_uri: str, database: Database[Any]) -> Iterator[Store]:
    store = connect(mongo_uri, database.name)
    yield store
    store.connection.close()


@pytest.fixture
def dealer(separate: SeparateIngester) -> Iterator[Callable[[bytes], dict[str, Any]]]:
    """Yield a function that sends an acknowledged request and returns the answer."""
    context: zmq.Context[Any] = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.rcvtimeo = 150_000
    socket.connect(separate.address("ack"))

    def ask(payload: bytes) -> dict[str, Any]:
        socket.send_multipart([b"1", payload])
        return bson.decode(socket.recv_multipart()[1])

    yield ask
    socket.close()
    context.term()


HOSTILE = [
    ("json", b"1\n" * MIB),
    ("json", b'1\n{"typ":"x"}\nnonsense\n' * 30_000),
    ("json", b"{\n" * 300_000),
    ("bson", EMPTY * 99_000),
    ("bson", (EMPTY + bson.encode({"type": "x"}) + bson.encode({"$command": "y"})) * 30_000),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("receiver", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_another_sender_is_answered_while_a_hostile_message_is_read(
    separate: SeparateIngester, push: Callable[..., None], receiver: str, message: bytes
) -> None:
    with AcknowledgedClient(separate.address("ack"), timeout_s=120) as good:
        good.event("first", {})

        def answered() -> float:
            push(separate.address(receiver), message)
            return seconds(lambda: good.event("good", {}))

        assert_within(MOST_S, answered, tries=2)  # the second one may come while the first is worked on


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("receiver", "message", "stored", "quarantined"),
    [
        ("json", b"1\n" * (8 * MIB), 0, 8 * MIB),
        ("bson", EMPTY * (16 * MIB // 5), 0, 16 * MIB // 5),
        ("bson", bson.encode({"typ": "x", "extra": "y" * 140}) * 90_000, 0, 90_000),
        ("bson", (bson.encode({"type": "x", "extra": "y" * 140}) + EMPTY) * 49_000, 49_000, 49_000),
    ],
    ids=range(4),
)
def test_a_message_of_16_mib_takes_bounded_memory_and_each_document_counts(
    separate: SeparateIngester,
    looking: Store,
    push: Callable[..., None],
    receiver: str,
    message: bytes,
    stored: int,
    quarantined: int,
) -> None:
    database = looking.database()
    push(separate.address("bson"), bson.encode({"type": "first"}))
    eventually(lambda: sums(database)["stored"] == 1)
    before = separate.forget_peak()
    push(separate.address(receiver), message)
    eventually(lambda: sums(database)["stored"] + sums(database)["quarantined"] == 1 + stored + quarantined)
    assert sums(database) == {"stored": 1 + stored, "duplicates": 0, "quarantined": quarantined}
    assert separate.peak_mib() - before < MOST_MIB
    report = eventually(lambda: (found := summarize(looking)).pending == 0 and found)
    assert report.received == 1 + stored + quarantined
    entries = list(database["quarantine"].find())
    assert sum(entry.get("count", 1) for entry in entries) == quarantined
    assert len(entries) < 200


def test_an_acknowledged_request_is_answered_with_few_refusals_and_the_number_of_each(
    dealer: Callable[[bytes], dict[str, Any]],
) -> None:
    answer = dealer((EMPTY + bson.encode({"type": "x"})) * 40_000)
    assert answer["accepted"] == 40_000
    assert [item["index"] for item in answer["rejected"]] == list(range(0, 42, 2))
    assert sum(item.get("count", 1) for item in answer["rejected"]) == 40_000
    answer = dealer(EMPTY * 150_000)
    assert answer["accepted"] == 0
    assert {item["code"] for item in answer["rejected"]} == {"too_many_documents"}
    assert sum(item["count"] for item in answer["rejected"]) == 150_000


@pytest.mark.parametrize("receiver", ["json", "bson"])
def test_a_stop_while_a_message_is_read_loses_nothing_of_it(
    ingester: RunningIngester, database: Database[Any], push: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
    receiver: str, time_to_commit: None,
) -> None:  # fmt: skip
    read = threading.Event()
    sound = turn_module.Turn.__call__

    def call(turn: turn_module.Turn) -> None:
        read.set()
        sound(turn)

    monkeypatch.setattr(turn_module, "TURN_S", 0.0)
    monkeypatch.setattr(turn_module.Turn, "__call__", call)
    message = b'{"type":"x"}\n' * 30_000 if receiver == "json" else (bson.encode({"type": "x"}) + EMPTY) * 30_000
    push(ingester.address(receiver), message)
    assert read.wait(60)
    ingester.stop()
    assert database["event"].count_documents({"type": "x"}) == 30_000


def test_a_kill_in_a_pause_takes_effect_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "TURN_S", 0.0)
    steps: list[int] = []

    def work() -> None:
        with loop_turn() as turn:
            for step in range(5):
                steps.append(step)
                turn()
        steps.append(99)

    greenlet = gevent.spawn(work)
    gevent.sleep(0)  # it starts
    greenlet.kill()
    assert steps == [0, 1, 2, 3, 4]

"""A relay passes on everything that it has read, to any child that reads, before it reports that it has."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
import zmq

from ingest.journal.journal import Journal, journal_folders
from ingest.journal.record import Record, checksum_seed, read_events, scan
from ingest.server.leftover_journal import LeftoverJournal
from ingest.server.push_reader import end_mark, without_mark
from ingest.server.relay import SOCKET_PAIRS, Relay
from ingest.settings import JournalSettings
from tests.support.waiting import eventually

COUNT = 10_000
MARK = b"end of test"


def push(address: str, count: int = COUNT) -> None:
    """Send numbered events; return when the kernel has them all, with or without a reader."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.LINGER, -1)
        socket.connect(address)
        for n in range(count):
            socket.send(bson.encode({"type": "pushed", "context": {"n": n}}))


class FakeChild:
    """The receiver of pushed messages of a child; the test decides when it reads."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.RCVHWM, 10)
        self.socket.bind(address)
        self.numbers: list[int] = []
        self.ended = False

    def read(self) -> None:
        """Read until the end mark arrives."""
        while not self.ended:
            assert self.socket.poll(60_000)
            message = self.socket.recv()
            if message == MARK:
                self.ended = True
            else:
                self.numbers.append(bson.decode(message)["context"]["n"])

    def close(self) -> None:
        self.socket.close(linger=0)
        self._context.term()


class RelayWithChildren:
    """A relay between a bound socket, up to two children, and the leftover journal."""

    def __init__(self, folder: Path) -> None:
        self.addresses = [f"ipc://{folder}/{name}" for name in ("0", "1", "rest")]
        self.relay = Relay(SOCKET_PAIRS[0], "tcp://127.0.0.1:0", self.addresses, None, MARK)
        self.relay.start()
        self.journal = JournalSettings(folder / "journal")
        self.leftover = LeftoverJournal(
            {"bson_bind_address": self.addresses[2], "json_bind_address": f"ipc://{folder}/json"}, MARK, self.journal
        )
        self.children: list[FakeChild] = []
        self._folder = folder

    def child(self, number: int) -> FakeChild:
        self.children.append(FakeChild(self.addresses[number]))
        return self.children[-1]

    def end_json_relay(self) -> None:
        """Send the end mark of the relay for JSON, which has no messages."""
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.setsockopt(zmq.LINGER, -1)
            socket.connect(f"ipc://{self._folder}/json")
            socket.send(MARK)

    def journalled(self) -> list[int]:
        found = []
        for folder in journal_folders(self.journal.folder):
            Journal.adopt(folder, self.journal).release()  # no process holds it
            for path in sorted(folder.glob("*.seg")):
                records = scan(path.read_bytes(), checksum_seed(uuid.UUID(folder.name)))
                for record in records:
                    assert isinstance(record, Record)
                    found += [bson.decode(event)["context"]["n"] for event in read_events(record)[0]]
        return found


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[RelayWithChildren]:
    made = RelayWithChildren(tmp_path)
    yield made
    made.relay.stop()
    for child in made.children:
        child.close()


def test_children_that_read_late_get_everything_once(relayed: RelayWithChildren) -> None:
    slow, slower = relayed.child(0), relayed.child(1)
    push(relayed.relay.address)
    eventually(lambda: slow.socket.poll(0) and slower.socket.poll(0))
    relayed.relay.request_end()
    assert not relayed.relay.all_delivered.wait(0.2)
    slow_reads = threading.Thread(target=slow.read)
    slow_reads.start()
    assert relayed.relay.all_delivered.wait(60)
    slower.read()
    slow_reads.join(60)
    assert sorted(slow.numbers + slower.numbers) == list(range(COUNT))
    assert slower.numbers
    assert slow.numbers


def test_messages_that_no_child_reads_are_journalled_before_the_end(relayed: RelayWithChildren) -> None:
    sleeper = relayed.child(0)
    push(relayed.relay.address)
    eventually(lambda: sleeper.socket.poll(0))
    relayed.relay.request_end()
    relayed.leftover.start()
    assert relayed.relay.all_delivered.wait(60)
    relayed.end_json_relay()
    relayed.leftover.finish(60)
    sleeper.read()
    written = relayed.journalled()
    assert written
    assert sorted(sleeper.numbers + written) == list(range(COUNT))


def test_without_any_child_everything_is_journalled(relayed: RelayWithChildren) -> None:
    push(relayed.relay.address)
    relayed.relay.request_end()
    relayed.leftover.start()
    assert relayed.relay.all_delivered.wait(60)
    relayed.end_json_relay()
    relayed.leftover.finish(60)
    assert relayed.journalled() == list(range(COUNT))


def test_a_child_that_dies_at_the_end_loses_only_messages_that_it_had_received(relayed: RelayWithChildren) -> None:
    dying, living = relayed.child(0), relayed.child(1)
    push(relayed.relay.address)
    eventually(lambda: dying.socket.poll(0) and living.socket.poll(0))
    relayed.relay.request_end()
    dying.close()
    relayed.children.remove(dying)
    living.read()
    given = set(range(COUNT)) - set(living.numbers)
    assert len(given) < COUNT / 2
    assert len(living.numbers) == len(set(living.numbers))


def test_the_last_messages_are_journalled_for_as_long_as_it_makes_progress(
    relayed: RelayWithChildren, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drain_slowly(socket: zmq.Socket[bytes]) -> list[bytes]:
        time.sleep(0.01)
        return [socket.recv()]

    monkeypatch.setattr("ingest.server.leftover_journal.drain", drain_slowly)
    push(relayed.relay.address, 400)
    relayed.relay.request_end()
    relayed.leftover.start()
    relayed.end_json_relay()
    relayed.leftover.finish(1.5)
    assert relayed.journalled() == list(range(400))


def test_no_journal_is_left_if_no_message_is_left(relayed: RelayWithChildren) -> None:
    child = relayed.child(0)
    relayed.relay.request_end()
    relayed.leftover.start()
    relayed.end_json_relay()
    relayed.leftover.finish(60)
    child.read()
    assert journal_folders(relayed.journal.folder) == []


def test_the_end_mark_is_not_mistaken_for_a_message() -> None:
    mark = end_mark(Path("/run/in-abc"))
    messages = [b"a", mark, b"b"]
    assert without_mark(messages, mark) == [b"a", b"b"]
    assert without_mark([b"a"], mark) == [b"a"]
    assert without_mark(messages, b"") is messages


def test_a_relay_that_is_stopped_while_it_waits_for_a_child_ends_once_there_is_space(
    relayed: RelayWithChildren,
) -> None:
    """libzmq's proxy answers the command to end: it would wait for ever if nothing read the answer."""
    push(relayed.relay.address, 1)
    relayed.relay.request_end()
    child = relayed.child(0)
    child.read()
    assert relayed.relay.all_delivered.wait(60)
    assert child.numbers == [0]


def test_signals_lose_no_message(relayed: RelayWithChildren) -> None:
    """The kernel delivers them to any thread that does not block them, even in the middle of a message."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    ends, child = threading.Event(), relayed.child(0)

    def interrupt() -> None:
        while not ends.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pthread_kill(relayed.relay._thread.ident or 0, signal.SIGUSR1)
            time.sleep(0.0005)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        push(relayed.relay.address)
        relayed.relay.request_end()
        child.read()
    finally:
        ends.set()
        interrupter.join()
        signal.signal(signal.SIGUSR1, before)
    assert child.numbers == list(range(COUNT))


def test_a_relay_that_was_not_started_releases_its_address() -> None:
    relay = Relay(SOCKET_PAIRS[0], "tcp://127.0.0.1:0", [], None)
    relay.discard()
    again = Relay(SOCKET_PAIRS[0], relay.address, [], None)
    again.discard()

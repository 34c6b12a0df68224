"""A relay hands on everything before it says so, to whoever takes it, and loses nothing that was read."""

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
from ingest.server.relay import RELAYED_SOCKETS, Relay
from ingest.settings import JournalSettings
from tests.support.waiting import eventually

COUNT = 10_000
MARK = b"end of test"


def push(address: str, count: int = COUNT) -> None:
    """Send numbered events; return when the kernel has them all, whoever reads."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.LINGER, -1)
        socket.connect(address)
        for n in range(count):
            socket.send(bson.encode({"type": "pushed", "context": {"n": n}}))


class StandIn:
    """The pushed door of a child that reads when it is told to."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.RCVHWM, 10)
        self.socket.bind(address)
        self.numbers: list[int] = []
        self.ended = False

    def read(self) -> None:
        """Until the mark comes."""
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


class Line:
    """A relay between a bound socket, two children that may be there, and what is left over."""

    def __init__(self, folder: Path) -> None:
        self.addresses = [f"ipc://{folder}/{name}" for name in ("0", "1", "rest")]
        self.relay = Relay(RELAYED_SOCKETS[0], "tcp://127.0.0.1:0", self.addresses, None, MARK)
        self.relay.start()
        self.journal = JournalSettings(folder / "journal")
        self.leftover = LeftoverJournal(
            {"bson_bind_address": self.addresses[2], "json_bind_address": f"ipc://{folder}/json"}, MARK, self.journal
        )
        self.children: list[StandIn] = []
        self._folder = folder

    def child(self, number: int) -> StandIn:
        self.children.append(StandIn(self.addresses[number]))
        return self.children[-1]

    def end_of_json(self) -> None:
        """The other relay of a front has nothing."""
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.setsockopt(zmq.LINGER, -1)
            socket.connect(f"ipc://{self._folder}/json")
            socket.send(MARK)

    def journalled(self) -> list[int]:
        found = []
        for folder in journal_folders(self.journal.folder):
            Journal.adopt(folder, self.journal).release()  # nobody holds it
            for path in sorted(folder.glob("*.seg")):
                records = scan(path.read_bytes(), checksum_seed(uuid.UUID(folder.name)))
                for record in records:
                    assert isinstance(record, Record)
                    found += [bson.decode(event)["context"]["n"] for event in read_events(record)[0]]
        return found


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.relay.stop()
    for child in made.children:
        child.close()


def test_children_that_read_late_get_everything_once(line: Line) -> None:
    slow, slower = line.child(0), line.child(1)
    push(line.relay.address)
    eventually(lambda: slow.socket.poll(0) and slower.socket.poll(0), 60)
    line.relay.ask_to_end()
    assert not line.relay.handed_on.wait(0.2)
    slow_reads = threading.Thread(target=slow.read)
    slow_reads.start()
    assert line.relay.handed_on.wait(60)
    slower.read()
    slow_reads.join(60)
    assert sorted(slow.numbers + slower.numbers) == list(range(COUNT))
    assert slower.numbers
    assert slow.numbers


def test_what_no_child_takes_is_in_a_journal_before_the_end(line: Line) -> None:
    sleeper = line.child(0)
    push(line.relay.address)
    eventually(lambda: sleeper.socket.poll(0), 60)
    line.relay.ask_to_end()
    line.leftover.start()
    assert line.relay.handed_on.wait(60)
    line.end_of_json()
    line.leftover.finish(60)
    sleeper.read()
    written = line.journalled()
    assert written
    assert sorted(sleeper.numbers + written) == list(range(COUNT))


def test_without_any_child_everything_is_written(line: Line) -> None:
    push(line.relay.address)
    line.relay.ask_to_end()
    line.leftover.start()
    assert line.relay.handed_on.wait(60)
    line.end_of_json()
    line.leftover.finish(60)
    assert line.journalled() == list(range(COUNT))


def test_a_child_that_dies_at_the_end_costs_only_what_it_had_been_given(line: Line) -> None:
    dying, living = line.child(0), line.child(1)
    push(line.relay.address)
    eventually(lambda: dying.socket.poll(0) and living.socket.poll(0), 60)
    line.relay.ask_to_end()
    dying.close()
    line.children.remove(dying)
    living.read()
    given = set(range(COUNT)) - set(living.numbers)
    assert len(given) < COUNT / 2
    assert len(living.numbers) == len(set(living.numbers))


def test_nothing_left_leaves_no_journal(line: Line) -> None:
    child = line.child(0)
    line.relay.ask_to_end()
    line.leftover.start()
    line.end_of_json()
    line.leftover.finish(60)
    child.read()
    assert journal_folders(line.journal.folder) == []


def test_the_mark_is_told_from_messages() -> None:
    mark = end_mark(Path("/run/in-abc"))
    messages = [b"a", mark, b"b"]
    assert without_mark(messages, mark) == [b"a", b"b"]
    assert without_mark([b"a"], mark) == [b"a"]
    assert without_mark(messages, b"") is messages


def test_a_relay_that_is_told_to_end_while_it_waits_for_a_child_ends_once_there_is_room(line: Line) -> None:
    """libzmq's proxy answers the order to end: it waits for ever when nobody is there for the answer."""
    push(line.relay.address, 1)
    line.relay.ask_to_end()
    child = line.child(0)
    child.read()
    assert line.relay.handed_on.wait(60)
    assert child.numbers == [0]


def test_signals_cost_no_message(line: Line) -> None:
    """They reach whichever thread does not block them, also one in the middle of a message."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    ends, child = threading.Event(), line.child(0)

    def interrupt() -> None:
        while not ends.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pthread_kill(line.relay._thread.ident or 0, signal.SIGUSR1)
            time.sleep(0.0005)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        push(line.relay.address)
        line.relay.ask_to_end()
        child.read()
    finally:
        ends.set()
        interrupter.join()
        signal.signal(signal.SIGUSR1, before)
    assert child.numbers == list(range(COUNT))


def test_a_relay_that_was_not_started_lets_go_of_its_address() -> None:
    relay = Relay(RELAYED_SOCKETS[0], "tcp://127.0.0.1:0", [], None)
    relay.discard()
    again = Relay(RELAYED_SOCKETS[0], relay.address, [], None)
    again.discard()

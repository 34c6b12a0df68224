"""Closing a socket: what senders consider sent is read, and they keep what they have not sent."""

from __future__ import annotations

import contextlib
import socket as plain
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import zmq

from ingest.server.socket_reader import bound_address
from ingest.transport.socket_drain import connected, read_all, unread_bytes
from tests.support.waiting import eventually

HIGH_WATER_COUNT = 10
BODY = b"." * 500


class Sender(threading.Thread):
    """Send numbers over one connection."""

    def __init__(self, address: str, most: int = 10**9) -> None:
        super().__init__(daemon=True)
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.PUSH)
        self.socket.setsockopt(zmq.SNDHWM, HIGH_WATER_COUNT)
        self.socket.connect(address)
        self.sent = 0
        self.over = threading.Event()
        self._most = most

    def run(self) -> None:
        while not self.over.is_set() and self.sent < self._most:
            try:
                self.socket.send(b"%d" % self.sent + BODY, zmq.NOBLOCK)
                self.sent += 1
            except zmq.Again:
                self.over.wait(0.001)

    def end(self) -> None:
        self.over.set()
        self.join(20)
        self.socket.close(linger=0)
        self.context.term()


class Receiver:
    """Have a small queue, so that most of what was sent is in the kernel."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.numbers: list[int] = []
        self.bind(address)

    def bind(self, address: str) -> None:
        self.socket = self._context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
        eventually(lambda: self._bound(address), 20, "the address is free again")
        self.address = bound_address(self.socket)

    def _bound(self, address: str) -> bool:
        with contextlib.suppress(zmq.ZMQError):
            self.socket.bind(address)
            return True
        return False

    def read(self) -> bool:
        for received in range(HIGH_WATER_COUNT):
            try:
                self.numbers.append(int(self.socket.recv(zmq.NOBLOCK).removesuffix(BODY)))
            except zmq.Again:
                return received > 0
        return True

    def close(self) -> None:
        self.socket.close(linger=0)
        self._context.term()


@pytest.fixture(params=["tcp", "ipc"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver("tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{tmp_path}/in")
    yield made
    made.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Sender]]:
    started: list[Sender] = []

    def sender(receiver: Receiver, most: int = 10**9) -> Sender:
        started.append(Sender(receiver.address, most))
        started[-1].start()
        return started[-1]

    yield sender
    for each in started:
        each.end()


def test_bytes_in_the_kernel_are_read(receiver: Receiver, start: Callable[..., Sender]) -> None:
    sender = start(receiver)
    eventually(lambda: unread_bytes(receiver.address) > 10 * len(BODY), 60)
    sender.over.set()
    sender.join(20)
    assert read_all(receiver.address, receiver.read)
    assert receiver.numbers == list(range(sender.sent))
    assert not connected(receiver.address)


def test_a_sender_that_keeps_sending_keeps_the_rest_for_the_next_listener(
    receiver: Receiver, start: Callable[..., Sender]
) -> None:
    address, sender = receiver.address, start(receiver)
    eventually(lambda: unread_bytes(address) > 10 * len(BODY), 60)
    assert read_all(address, receiver.read)
    receiver.socket.close(linger=0)
    before = len(receiver.numbers)
    receiver.bind(address)
    eventually(lambda: receiver.read() and len(receiver.numbers) > before + 100, 60)
    sender.over.set()
    sender.join(20)
    eventually(lambda: receiver.read() or len(receiver.numbers) == sender.sent, 60)
    eventually(lambda: not receiver.read() and len(receiver.numbers) >= sender.sent, 60)
    assert receiver.numbers == list(range(sender.sent))


def test_messages_of_closed_senders_are_read_to_the_end_however_slowly(start: Callable[..., Sender]) -> None:
    """ZeroMQ would drop unread messages of a connection that is closed on both sides while the queue is full."""
    receiver = Receiver("tcp://127.0.0.1:*")
    sender = start(receiver, 1_000)
    eventually(lambda: sender.sent == 1_000, 60)
    sender.join(20)
    sender.socket.close(linger=20_000)
    sender.context.term()  # all of it is with the kernel
    turns = 0

    def slowly() -> bool | None:
        nonlocal turns
        turns += 1
        return receiver.read() if turns % 10 == 0 else None

    try:
        assert read_all(receiver.address, slowly)
        assert receiver.numbers == list(range(1_000))
    finally:
        receiver.close()


def test_a_silent_connection_that_never_closes_is_not_waited_for() -> None:
    receiver = Receiver("tcp://127.0.0.1:*")
    with plain.create_connection(("127.0.0.1", urlsplit(receiver.address).port or 0)):
        eventually(lambda: connected(receiver.address), 20)
        assert read_all(receiver.address, receiver.read)
    receiver.close()

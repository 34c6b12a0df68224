"""Closing a socket: what senders consider sent is read, and they keep what they have not sent."""

from __future__ import annotations

import contextlib
import errno
import select
import socket as plain
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import zmq

from ingest.server.socket_reader import bound_address
from ingest.transport import kernel_socket, socket_drain
from ingest.transport.kernel_socket import connected, connections
from ingest.transport.socket_drain import read_all
from tests.support.waiting import eventually

HIGH_WATER_COUNT = 10
BODY = b"." * 500
GREETING = (  # of a PUSH socket (RFC 37)
    b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48) + b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH"
)


def unread_bytes(address: str) -> int:
    """Return how many bytes the kernel holds that the socket bound to `address` has not taken yet."""
    return sum(map(kernel_socket.unread_bytes, connections(address, accepted=True)))


class Sender(threading.Thread):
    """Send numbers over one connection."""

    def __init__(self, address: str, most: int = 10**9, pause_s: float = 0.0, queue: int = HIGH_WATER_COUNT) -> None:
        super().__init__(daemon=True)
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.PUSH)
        self.socket.setsockopt(zmq.SNDHWM, queue)
        self.socket.connect(address)
        self.sent = 0
        self.refused = 0  # attempts while the queue and the kernel's buffers were full
        self.over = threading.Event()
        self._most = most
        self._pause_s = pause_s

    def run(self) -> None:
        while not self.over.is_set() and self.sent < self._most:
            try:
                self.socket.send(b"%d" % self.sent + BODY, zmq.NOBLOCK)
                self.sent += 1
                if self._pause_s:
                    self.over.wait(self._pause_s)
            except zmq.Again:
                self.refused += 1
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
        self.turn_s = 0.0  # how long receiving takes
        self.bind(address)

    def bind(self, address: str) -> None:
        self.socket = self._context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
        eventually(lambda: self._bound(address), what="the address is free again")
        self.address = bound_address(self.socket)
        kernel_socket.limit_segments(self.address)

    def _bound(self, address: str) -> bool:
        with contextlib.suppress(zmq.ZMQError):
            self.socket.bind(address)
            return True
        return False

    def receive(self) -> int:
        """Receive some numbers; return how many."""
        time.sleep(self.turn_s)
        before = len(self.numbers)
        with contextlib.suppress(zmq.Again):
            while len(self.numbers) - before < HIGH_WATER_COUNT:
                self.numbers.append(int(self.socket.recv(zmq.NOBLOCK).partition(b".")[0]))
        return len(self.numbers) - before

    def read_all(self) -> list[int]:
        """Return the numbers that were received at the end."""
        before = len(self.numbers)
        read_all(self.socket, self.address, self.receive)
        return self.numbers[before:]

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

    def sender(receiver: Receiver, most: int = 10**9, **settings: Any) -> Sender:
        started.append(Sender(receiver.address, most, **settings))
        started[-1].start()
        return started[-1]

    yield sender
    for each in started:
        each.end()


def _end_everything(receiver: Receiver, senders: list[Sender], may_lose: int = 0) -> list[int]:
    """Drain, listen again at the same address, end the senders; return all numbers in the order of their arrival."""
    receiver.read_all()
    receiver.socket.close(linger=0)
    before = len(receiver.numbers)
    receiver.bind(receiver.address)
    eventually(lambda: receiver.receive() and len(receiver.numbers) > before + 5)
    for sender in senders:
        sender.over.set()
    while any(sender.is_alive() for sender in senders):
        receiver.receive()
    least = sum(sender.sent for sender in senders) - may_lose
    eventually(lambda: not receiver.receive() and len(receiver.numbers) >= least)
    return receiver.numbers


def test_bytes_in_the_kernel_are_read(receiver: Receiver, start: Callable[..., Sender]) -> None:
    sender = start(receiver)
    eventually(lambda: unread_bytes(receiver.address) > 10 * len(BODY))
    sender.over.set()
    sender.join(20)
    receiver.read_all()
    assert receiver.numbers == list(range(sender.sent))
    assert not connected(receiver.address)


def test_a_sender_that_pauses_keeps_the_rest_for_the_next_listener(
    receiver: Receiver, start: Callable[..., Sender]
) -> None:
    """The queue and the kernel's buffers are full when the end begins."""
    sender = start(receiver, pause_s=0.001)
    eventually(lambda: unread_bytes(receiver.address) > 10 * len(BODY))
    numbers = _end_everything(receiver, [sender])
    assert numbers == list(range(sender.sent))


def test_a_sender_is_shut_down_while_it_pauses() -> None:
    """A message that it has written in part would be lost."""
    receiver = Receiver("tcp://127.0.0.1:*")
    pauses_s: list[float] = []

    def send() -> None:
        """Send a message byte by byte until the connection is shut down."""
        greet(sender)
        sender.sendall(b"\x02" + (10**6).to_bytes(8, "big"))
        before = time.monotonic()
        while not select.select([sender], [], [], 0.001)[0]:
            sender.send(b".")
            before, now = time.monotonic(), before
            pauses_s.append(before - now)

    with plain.create_connection(("127.0.0.1", urlsplit(receiver.address).port or 0)) as sender:
        thread = threading.Thread(target=send)
        thread.start()
        eventually(lambda: len(pauses_s) > 8)
        begun = len(pauses_s)
        receiver.read_all()
        thread.join(20)
    receiver.close()
    assert sum(pauses_s[begun:]) > 0.3 or max(pauses_s[begun:]) > 0.01


def test_senders_that_never_pause_lose_at_most_the_message_that_they_have_written_in_part(
    start: Callable[..., Sender],
) -> None:
    receiver = Receiver("tcp://127.0.0.1:*")
    receiver.turn_s = 0.001  # less than its senders send meanwhile
    senders = [start(receiver, queue=1_000), start(receiver, queue=1_000)]
    try:
        eventually(lambda: unread_bytes(receiver.address) > 200 * len(BODY))
        numbers = _end_everything(receiver, senders, may_lose=len(senders))
        assert all(count <= len(senders) for count in Counter(numbers).values())
    finally:
        receiver.close()


def test_reading_may_take_longer_than_senders_have_to_end(
    start: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_drain, "CLOSE_WITHIN_S", 1.0)
    receiver = Receiver("tcp://127.0.0.1:*")
    receiver.turn_s = 0.02
    sender = start(receiver, 2_000, queue=2_000)
    try:
        eventually(lambda: sender.sent == 2_000 and unread_bytes(receiver.address) > 200 * len(BODY))
        assert receiver.read_all() == list(range(2_000))
    finally:
        receiver.close()


def test_a_time_in_which_the_process_stands_still_is_not_taken_from_senders(
    start: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A suspended machine: once it goes on, senders still have to learn that their connection ends."""
    monkeypatch.setattr(socket_drain, "CLOSE_WITHIN_S", 1.0)
    receiver = Receiver("tcp://127.0.0.1:*")
    sender = start(receiver, pause_s=0.001)
    stop_s = [1.5 * (socket_drain.CLOSE_WITHIN_S + socket_drain.SILENT_S)]
    accept, receive = kernel_socket.accept_packets, receiver.receive

    def accept_again(connection: plain.socket) -> None:
        accept(connection)
        receiver.turn_s = stop_s.pop() if stop_s else 0.0  # once the limit is lifted

    def receive_and_go_on() -> int:
        count = receive()
        receiver.turn_s = 0.0
        return count

    monkeypatch.setattr(kernel_socket, "accept_packets", accept_again)
    monkeypatch.setattr(receiver, "receive", receive_and_go_on)
    try:
        eventually(lambda: unread_bytes(receiver.address) > 10 * len(BODY))
        assert _end_everything(receiver, [sender]) == list(range(sender.sent))
        assert (stop_s, caplog.text) == ([], "")
    finally:
        receiver.close()


def test_senders_that_were_held_up_for_long_complete_what_they_have_written_in_part(
    start: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCP repeats what was dropped after up to twice the time for which it was: here 4 s, until all has been read."""
    receiver = Receiver("tcp://127.0.0.1:*")
    receiver.turn_s = 0.045
    accept = kernel_socket.accept_packets

    def accept_again(connection: plain.socket) -> None:
        accept(connection)
        receiver.turn_s = 0.0

    monkeypatch.setattr(kernel_socket, "accept_packets", accept_again)
    senders = [start(receiver, pause_s=0.0002) for _ in range(4)]
    try:
        eventually(lambda: all(sender.refused > 100 for sender in senders), what="all are held up")
        numbers = _end_everything(receiver, senders)
        assert Counter(numbers) == sum((Counter(range(sender.sent)) for sender in senders), Counter())
    finally:
        receiver.close()


def test_the_end_comes_where_the_system_cannot_hold_senders_up(
    start: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that is shut down while its queue is full may go on; then its messages are dropped, and logged."""

    def refuse(_connection: plain.socket) -> None:
        raise OSError(errno.ENOPROTOOPT, "not supported")

    monkeypatch.setattr(kernel_socket, "drop_packets", refuse)
    receiver = Receiver("tcp://127.0.0.1:*")
    receiver.turn_s = 0.001
    sender = start(receiver, queue=1_000)
    try:
        eventually(lambda: unread_bytes(receiver.address) > 200 * len(BODY))
        receiver.read_all()
        assert not connected(receiver.address) or "sender does not stop sending" in caplog.text
        assert sender.is_alive(), "it waits for the next listener"
    finally:
        receiver.close()


def test_waiting_messages_are_read_even_if_senders_cannot_be_ended(
    start: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_folder: str) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    receiver = Receiver("tcp://127.0.0.1:*")
    sender = start(receiver, 5)
    try:
        eventually(lambda: sender.sent == 5 and receiver.socket.poll(0))
        with monkeypatch.context() as full:
            full.setattr("ingest.transport.kernel_socket.os.listdir", refuse)
            found = receiver.read_all()
        assert found
        assert found == list(range(len(found))), "some may still be on their way"
        assert "Too many open files" in caplog.text
    finally:
        receiver.close()


def test_nobody_connects_once_the_end_has_begun(receiver: Receiver, start: Callable[..., Sender]) -> None:
    received = iter(range(100))
    late: list[Sender] = []

    def receive() -> int:
        """Have something to read for a while, in which a sender arrives."""
        if not late:
            late.append(start(receiver, 5))
        return 1 if next(received, None) is not None and not pause.wait(0.005) else receiver.receive()

    pause = threading.Event()
    read_all(receiver.socket, receiver.address, receive)
    assert receiver.numbers == []
    receiver.socket.close(linger=0)
    receiver.bind(receiver.address)
    eventually(lambda: receiver.receive() and len(receiver.numbers) == 5)


def test_messages_of_closed_senders_are_read_to_the_end(start: Callable[..., Sender]) -> None:
    """ZeroMQ would drop unread messages of a connection that is closed on both sides while the queue is full."""
    receiver = Receiver("tcp://127.0.0.1:*")
    sender = start(receiver, 1_000)
    eventually(lambda: sender.sent == 1_000)
    sender.join(20)
    sender.socket.close(linger=20_000)
    sender.context.term()  # all of it is with the kernel
    try:
        assert receiver.read_all() == list(range(1_000))
    finally:
        receiver.close()


def number_frame(number: int) -> bytes:
    """Return a message as it is on the wire (RFC 23)."""
    body = b"%d." % number
    return bytes([0, len(body)]) + body


@pytest.fixture
def connected_sender() -> Iterator[tuple[plain.socket, Receiver]]:
    """Yield a plain connection to a receiver, and the receiver."""
    receiver = Receiver("tcp://127.0.0.1:*")
    with plain.create_connection(("127.0.0.1", urlsplit(receiver.address).port or 0)) as sender:
        yield sender, receiver
    receiver.close()


def greet(sender: plain.socket) -> None:
    """Return once the handshake is over: messages come after it."""
    sender.sendall(GREETING)
    answer = b""
    while len(answer) < len(GREETING):
        answer += sender.recv(len(GREETING) - len(answer))


def wait_until_shut_down(sender: plain.socket) -> None:
    while sender.recv(1000):
        pass


def read_beside(receiver: Receiver, send: Callable[[], object]) -> list[int]:
    """Drain while `send` runs; return the numbers that were received."""
    threading.Thread(target=send, daemon=True).start()
    receiver.read_all()
    return receiver.numbers


@pytest.mark.parametrize("late_s", [0.0, 2.0])
def test_messages_that_the_network_delivers_late_are_read(
    connected_sender: tuple[plain.socket, Receiver], late_s: float
) -> None:
    """The sender's kernel still repeats what was lost on the way, after the sender has closed the connection."""
    sender, receiver = connected_sender
    greet(sender)

    def send_late() -> None:
        wait_until_shut_down(sender)
        time.sleep(late_s)
        sender.sendall(b"".join(map(number_frame, range(10_000))))
        sender.close()

    assert read_beside(receiver, send_late) == list(range(10_000))


def test_a_large_message_may_take_longer_than_a_sender_may_be_silent(
    connected_sender: tuple[plain.socket, Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_drain, "SILENT_S", 1.0)
    sender, receiver = connected_sender
    greet(sender)

    def send_slowly() -> None:
        body = b"0." + BODY
        sender.sendall(b"\x02" + len(body).to_bytes(8, "big"))
        for start in range(0, len(body), 50):
            sender.sendall(body[start : start + 50])
            time.sleep(0.2)
        wait_until_shut_down(sender)
        sender.close()

    assert read_beside(receiver, send_slowly) == [0]


def test_a_sender_that_is_still_connecting_is_waited_for(connected_sender: tuple[plain.socket, Receiver]) -> None:
    """Its queue would be made with the old limit, after that of the others was lifted."""
    sender, receiver = connected_sender

    def join_late() -> None:
        time.sleep(0.1)
        greet(sender)
        sender.sendall(b"".join(map(number_frame, range(10_000))))
        wait_until_shut_down(sender)
        sender.close()

    assert read_beside(receiver, join_late) == list(range(10_000))


def test_a_sender_that_is_silent_and_never_closes_is_not_waited_for(
    connected_sender: tuple[plain.socket, Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    sender, receiver = connected_sender
    greet(sender)
    assert receiver.read_all() == []
    assert "sender is silent and does not close" in caplog.text


@pytest.mark.parametrize("sent", [b"", GREETING[:64]])
def test_a_connection_whose_handshake_does_not_end_is_left_out(
    connected_sender: tuple[plain.socket, Receiver], caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    """Such as one that only looks whether the port is open."""
    sender, receiver = connected_sender
    sender.sendall(sent)
    eventually(lambda: connected(receiver.address))
    assert receiver.read_all() == []
    assert ("sender is still connecting" in caplog.text) == bool(sent)

"""Closing a socket while the network, or a sender that is not ZeroMQ, takes its time."""

from __future__ import annotations

import select
import socket as plain
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from ingest.transport import kernel_socket, socket_drain
from ingest.transport.kernel_socket import connected
from tests.support.ingest.numbers import BODY, Receiver
from tests.support.waiting import eventually

GREETING = (  # of a PUSH socket (RFC 37)
    b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48) + b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH"
)


def number_frame(number: int) -> bytes:
    """Return a message as it is on the wire (RFC 23)."""
    body = b"%d." % number
    return bytes([0, len(body)]) + body


@pytest.fixture
def connected_sender() -> Iterator[tuple[plain.socket, Receiver]]:
    """Yield a plain connection that a receiver has accepted, and the receiver."""
    receiver = Receiver("tcp://127.0.0.1:*")
    with plain.create_connection(("127.0.0.1", urlsplit(receiver.address).port or 0)) as sender:
        # A busy kernel can be slower with its side of the connection, which then is no longer accepted.
        eventually(lambda: any(True for _ in kernel_socket.connections(receiver.address, True)), what="it is accepted")
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


@pytest.mark.parametrize("late_s", [0.0, 2.0])
def test_messages_that_the_network_delivers_late_are_read(
    connected_sender: tuple[plain.socket, Receiver], late_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender's kernel still repeats what was lost on the way, after the sender has closed the connection."""
    assert late_s < socket_drain.SILENT_S
    monkeypatch.setattr(socket_drain, "SILENT_S", 30.0)  # a busy machine may keep the sender from running
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


def test_a_sender_that_is_still_connecting_is_waited_for(
    connected_sender: tuple[plain.socket, Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue would be made with the old limit, after that of the others was lifted."""
    monkeypatch.setattr(socket_drain, "PAUSE_WITHIN_S", 30.0)  # a busy machine may keep the sender from running
    sender, receiver = connected_sender

    def join_late() -> None:
        time.sleep(0.1)
        greet(sender)
        sender.sendall(b"".join(map(number_frame, range(10_000))))
        wait_until_shut_down(sender)
        sender.close()

    assert read_beside(receiver, join_late) == list(range(10_000))


def test_a_sender_that_is_accepted_between_two_looks_is_waited_for(
    connected_sender: tuple[plain.socket, Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = connected_sender
    greet(sender)
    end, acceptable, connections = socket_drain._Drain.ended, kernel_socket.acceptable, socket_drain.connections
    about_to_end, accepted = False, False

    def ended(drain: socket_drain._Drain, received: int) -> bool:
        nonlocal about_to_end
        about_to_end = True
        return end(drain, received)

    def look() -> bool:
        """Return whether the sender has been accepted; it is directly after the first look at the end."""
        nonlocal accepted
        before, accepted = accepted, about_to_end
        return before

    monkeypatch.setattr(socket_drain._Drain, "ended", ended)
    monkeypatch.setattr(kernel_socket, "acceptable", lambda address: acceptable(address) if look() else True)
    monkeypatch.setattr(socket_drain, "connections", lambda *of: connections(*of) if look() else iter(()))

    def send_late() -> None:
        wait_until_shut_down(sender)
        sender.sendall(b"".join(map(number_frame, range(100))))
        sender.close()

    assert read_beside(receiver, send_late) == list(range(100))


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

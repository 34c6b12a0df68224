"""Closing a socket: what senders consider sent is read, and they keep what they have not sent."""

from __future__ import annotations

import errno
import socket as plain
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.transport import kernel_socket, socket_drain
from ingest.transport.kernel_socket import connected
from ingest.transport.socket_drain import read_all
from tests.support.ingest.numbers import BODY, Receiver, Sender, unread_bytes
from tests.support.waiting import eventually


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


def test_a_time_in_which_the_process_is_suspended_is_not_taken_from_senders(
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

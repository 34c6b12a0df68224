"""Which clients are ended for the memory, the files and the time that they take."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from aggregates.web.exceptions import UnavailableError
from tests.support.waiting import eventually
from zarkov_site import slow_client
from zarkov_site.slow_client import SlowClient, SlowClients


@pytest.fixture
def ends() -> Iterator[list[socket.socket]]:
    pair = list(socket.socketpair())
    yield pair
    for end in pair:
        end.close()


def test_the_awaited_client_that_came_first_is_ended_where_files_are_full(ends: list[socket.socket]) -> None:
    clients = SlowClients(most_file_bytes=10)
    busy, first, second, newest = (clients.client(each) for each in (None, ends[0], None, None))
    for client in (busy, first, second):
        client.grow(3)
    with second.awaited(), first.awaited():  # busy is worked on, and will end by itself
        newest.grow(3)
        assert [busy.ended, first.ended, second.ended] == [False, True, False]
    assert ends[0].recv(1) == b""
    assert clients.file_bytes == 9


def test_nothing_more_is_kept_where_nobody_can_be_ended() -> None:
    clients = SlowClients(most_file_bytes=10)
    clients.client(None).grow(8)
    with pytest.raises(UnavailableError, match="send it again later"):
        clients.client(None).grow(3)


def test_what_was_kept_for_a_client_that_left_no_longer_counts() -> None:
    clients = SlowClients(most_file_bytes=10)
    client = clients.client(None)
    client.grow(10)
    client.close()
    client.close()
    clients.client(None).grow(10)
    assert clients.file_bytes == 10


def test_a_piece_that_viewers_share_counts_once() -> None:
    clients = SlowClients(most_memory_bytes=10)
    viewers = [clients.client(None) for _ in range(5)]
    shared = bytes(8)
    for viewer in viewers:
        viewer.hold(shared)
    with viewers[0].awaited():
        clients.client(None).hold(bytes(2))
        assert not viewers[0].ended
        clients.client(None).hold(bytes(1))
        assert viewers[0].ended


def test_of_too_many_awaited_clients_the_first_is_ended() -> None:
    clients = SlowClients(most_awaited=2)
    first, second, third = (clients.client(None) for _ in range(3))
    with second.awaited(), first.awaited(), third.awaited():
        assert [first.ended, second.ended, third.ended] == [True, False, False]


def test_a_client_that_is_awaited_for_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_client, "LONGEST_WAIT_S", -1.0)
    monkeypatch.setattr(slow_client, "_CHECK_S", 0.0)
    clients = SlowClients()
    first, other = clients.client(None), clients.client(None)

    def is_ended(client: SlowClient) -> bool:
        return client.ended

    with first.awaited():
        assert not is_ended(first)
        with other.awaited():
            assert is_ended(first)


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a TCP connection, first ours; the other one takes little at a time."""
    with socket.socket() as listener, socket.socket() as theirs:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
        with ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            yield ours, theirs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the time as `slow_client` sees it, to be moved on by adding to its `seconds`."""

    class Clock:
        seconds = 1000.0

        def monotonic(self) -> float:
            return self.seconds

    made = Clock()
    monkeypatch.setattr(slow_client, "time", made)
    return made


def look(clients: SlowClients, clock: Any, after_s: float) -> None:
    """Let time pass, and somebody else wait."""
    clock.seconds += after_s
    with clients.client(None).awaited():
        pass


def test_a_client_that_sends_a_byte_now_and_then_is_not_ended(
    connection: tuple[socket.socket, socket.socket], clock: Any
) -> None:
    ours, theirs = connection
    clients = SlowClients()
    client = clients.client(ours)
    with client.awaited():
        for _ in range(5):
            theirs.send(b"x")
            ours.recv(1)  # it is here; the server reads on, since the piece is not full
            look(clients, clock, 50)
            assert not client.ended
        look(clients, clock, 59)
        assert not client.ended
        look(clients, clock, 2)
        assert client.ended


def test_a_client_that_reads_a_little_now_and_then_is_not_ended(
    connection: tuple[socket.socket, socket.socket], clock: Any
) -> None:
    ours, theirs = connection
    ours.setblocking(False)

    def fill() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(2**16))

    fill()
    clients = SlowClients()
    client = clients.client(ours)
    client.sends = False

    def took() -> bool:
        acked = slow_client._moved(ours)
        fill()
        theirs.recv(1024)
        return slow_client._moved(ours) != acked

    def is_ended_after_a_minute() -> bool:
        look(clients, clock, 61)
        return client.ended

    with client.awaited():
        for _ in range(3):
            eventually(took, what="a client that has read")
            look(clients, clock, 50)
            assert not client.ended
        eventually(is_ended_after_a_minute, what="the end of a client that reads no more")


def test_a_slow_client_counts_under_the_other_bounds_however_long_it_goes_on(
    connection: tuple[socket.socket, socket.socket], clock: Any
) -> None:
    ours, theirs = connection
    clients = SlowClients(most_awaited=2, most_file_bytes=10)
    client = clients.client(ours)
    with client.awaited():
        theirs.send(b"x")
        look(clients, clock, 50)
        with clients.client(None).awaited(), clients.client(None).awaited():
            assert client.ended

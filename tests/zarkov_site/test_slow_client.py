"""Which clients are ended for the memory, the files and the time that they take."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from aggregates.web.exceptions import UnavailableError
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

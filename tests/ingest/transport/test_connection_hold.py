"""Windows of real connections: what a sender can send while it is held, shut and open again."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ingest.transport import kernel_socket
from ingest.transport.connection_hold import RECEIVE_BUFFER_BYTES, Connection, ConnectionHolder, Window
from tests.support.waiting import eventually

PIECE = b"x" * 2**16


class Flood:
    """A sender that sends as fast as it can to a reader that reads as fast as it can, as libzmq does."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        kernel_socket.limit_segments(self.address)
        self.holder = ConnectionHolder([self.address, "ipc:///never"])
        self._sender = socket.create_connection(self._listener.getsockname())
        self._accepted, _ = self._listener.accept()
        self._threads = [threading.Thread(target=each) for each in (self._send, self._read)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._sender.sendall(PIECE)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # reset at the end
            while self._accepted.recv(2**20):
                pass

    @property
    def connection(self) -> Connection:
        (found,) = self.holder.connections()
        return found

    def received(self, within_s: float) -> int:
        """Return how many bytes arrive within a time."""
        before = self.connection.received_bytes
        time.sleep(within_s)  # what arrives meanwhile is what is measured
        return self.connection.received_bytes - before

    def is_alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        for each in (self._sender, self._accepted):  # what a held one has not read yet is not waited for
            with contextlib.suppress(OSError):  # it is ended already
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._sender, self._accepted, self._listener):
            each.close()


@pytest.fixture
def flood() -> Iterator[Flood]:
    flood = Flood()
    yield flood
    flood.close()


def test_a_held_sender_sends_kilobytes_a_second_and_goes_on_once_it_is_open(flood: Flood) -> None:
    eventually(lambda: flood.connection.received_bytes > 100 * 2**20)
    flood.holder.set_window(flood.connection, Window.HELD)
    eventually(lambda: flood.received(0.1) < 2**16, what="what was under way has arrived")
    assert flood.received(2.0) < 2**18
    flood.holder.set_window(flood.connection, Window.OPEN, Window.HELD)
    before = flood.connection.received_bytes
    eventually(lambda: flood.connection.received_bytes > before + 100 * 2**20)


def test_who_connects_while_newcomers_are_refused_is_connected_afterwards(flood: Flood) -> None:
    flood.holder.refuse_newcomers(refused=True)
    number = int(flood.address.rpartition(":")[2])
    with socket.socket() as newcomer:
        newcomer.settimeout(0.5)
        with pytest.raises(TimeoutError):
            newcomer.connect(("127.0.0.1", number))
        before = flood.connection.received_bytes
        eventually(lambda: flood.connection.received_bytes > before + 100 * 2**20, what="others go on")
        flood.holder.refuse_newcomers(refused=False)
        with socket.create_connection(("127.0.0.1", number)):
            pass


def test_a_sender_in_its_turn_sends_megabytes(flood: Flood) -> None:
    flood.holder.set_window(flood.connection, Window.HELD)
    eventually(lambda: flood.received(0.1) < 2**16, what="what was under way has arrived")
    flood.holder.set_window(flood.connection, Window.NARROW, Window.HELD)
    before = flood.connection.received_bytes
    eventually(lambda: flood.connection.received_bytes > before + 16 * 2**20)


def test_nothing_arrives_while_a_connection_is_shut(flood: Flood) -> None:
    flood.holder.set_window(flood.connection, Window.SHUT)
    eventually(lambda: flood.received(0.1) == 0)
    assert flood.received(1.0) == 0
    flood.holder.set_window(flood.connection, Window.HELD, Window.SHUT)
    before = flood.connection.received_bytes
    eventually(lambda: flood.connection.received_bytes > before, what="what TCP repeats")


def test_a_connection_that_is_ended_is_gone_for_both_sides(flood: Flood) -> None:
    flood.holder.set_window(flood.connection, Window.ENDED)
    eventually(lambda: not flood.is_alive())


def test_a_connection_that_is_gone_is_left_alone(flood: Flood) -> None:
    gone = flood.connection
    other = Connection(gone.cookie + 1, gone.descriptor, gone.address, 0)
    flood.holder.set_window(other, Window.HELD)
    before = flood.connection.received_bytes
    eventually(lambda: flood.connection.received_bytes > before + 100 * 2**20)


def test_only_connections_to_the_given_addresses_are_found(flood: Flood) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            assert [each.address for each in flood.holder.connections()] == [flood.address]
    assert ConnectionHolder(["ipc:///some/where"]).connections() == []

"""Bound what a web process keeps for clients that send or read slowly: bytes in files, bytes in memory, and time.

A client is awaited while the next piece of its body, or room for the next piece of its answer, has not come. Where a
bound is reached, the connection that has been served for the longest among the awaited ones is ended: those of good
clients end by themselves before.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

from aggregates.web.exceptions import UnavailableError

MOST_FILE_BYTES = 2**30  # of bodies and answers, over all clients of a process
MOST_MEMORY_BYTES = 64 * 2**20  # of pieces of streams that are being sent
MOST_AWAITED = 1_000  # clients; each costs some 50 KB
LONGEST_WAIT_S = 60.0  # for the next byte
_CHECK_S = 1.0  # between two looks for those that are awaited for too long
_MOVED_AT = 120  # of tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info (linux/tcp.h, since Linux 4.1)


class SlowClients:
    """Know all clients of a process that may be awaited. Threads and greenlets can share it."""

    def __init__(
        self,
        most_file_bytes: int = MOST_FILE_BYTES,
        most_memory_bytes: int = MOST_MEMORY_BYTES,
        most_awaited: int = MOST_AWAITED,
    ) -> None:
        self._most_file_bytes = most_file_bytes
        self._most_memory_bytes = most_memory_bytes
        self._most_awaited = most_awaited
        self._lock = threading.RLock()
        self._clients: dict[SlowClient, None] = {}  # oldest first
        self._awaited: dict[SlowClient, _Wait] = {}
        self._pieces: dict[int, int] = {}  # how many clients hold the piece with this id: viewers share them
        self._file_bytes = self._memory_bytes = 0
        self._check_at = 0.0

    def client(self, connection: socket.socket | None) -> SlowClient:
        """Return a new client, to be closed; `connection` is ended if it has to be, None where there is none."""
        client = SlowClient(self, connection)
        with self._lock:
            self._clients[client] = None
        return client

    @property
    def file_bytes(self) -> int:
        """Return how many bytes of all clients are in files."""
        return self._file_bytes

    def _leave(self, client: SlowClient) -> None:
        with self._lock:
            self._hold(client, None)
            self._file_bytes -= client.file_bytes
            client.file_bytes = 0
            self._clients.pop(client, None)
            self._awaited.pop(client, None)

    def _grow(self, client: SlowClient, size_bytes: int) -> None:
        with self._lock:
            while self._file_bytes + size_bytes > self._most_file_bytes:
                if not self._end_oldest(client, lambda each: each.file_bytes > 0):
                    raise UnavailableError("too many large requests are under way: send it again later")
            client.file_bytes += size_bytes
            self._file_bytes += size_bytes

    def _hold(self, client: SlowClient, piece: bytes | None) -> None:
        """Let `client` hold this piece in memory and no other."""
        with self._lock:
            before, client.piece = client.piece, piece
            if before is not None:
                count = self._pieces.pop(id(before)) - 1
                if count:
                    self._pieces[id(before)] = count
                else:
                    self._memory_bytes -= len(before) * client.share
            if piece is not None:
                count = self._pieces.get(id(piece), 0)
                self._pieces[id(piece)] = count + 1
                self._memory_bytes += 0 if count else len(piece) * client.share
                while self._memory_bytes > self._most_memory_bytes:
                    if not self._end_oldest(client, lambda each: each.piece is not None):
                        return

    def _await(self, client: SlowClient) -> None:
        with self._lock:
            now = time.monotonic()
            if now >= self._check_at:
                self._check_at = now + _CHECK_S
                for other, wait in list(self._awaited.items()):
                    if wait.idle_s(now) > LONGEST_WAIT_S:
                        self._end(other)
            while len(self._awaited) >= self._most_awaited and self._end_oldest(client, lambda each: True):
                pass
            self._awaited[client] = _Wait(client.connection, now)

    def _await_no_more(self, client: SlowClient) -> None:
        with self._lock:
            self._awaited.pop(client, None)

    def _end_oldest(self, instead_of: SlowClient, concerned: Callable[[SlowClient], bool]) -> bool:
        """End the awaited client that came first; return False if there is no other one than `instead_of`."""
        for client in self._clients:
            if client is not instead_of and client in self._awaited and concerned(client):
                self._end(client)
                return True
        return False

    def _end(self, client: SlowClient) -> None:
        """Give up a client: what is kept for it no longer counts, since its greenlet will let go of it at once."""
        client.ended = True
        self._leave(client)
        if client.connection is not None:
            with contextlib.suppress(OSError):
                client.connection.shutdown(socket.SHUT_RD if client.sends else socket.SHUT_RDWR)


class _Wait:
    """The time for which nothing came from a connection, nor went to it: a piece can take long, byte by byte."""

    def __init__(self, connection: socket.socket | None, now: float) -> None:
        self._connection = connection
        self._since = now
        self._moved = _moved(connection)

    def idle_s(self, now: float) -> float:
        """Return the seconds since the first call that found what the last one did."""
        moved = _moved(self._connection)
        if moved != self._moved:
            self._since, self._moved = now, moved
        return now - self._since


def _moved(connection: socket.socket | None) -> bytes:
    """Return numbers that change with each byte that the kernel received, or that the client's took.

    Where the kernel does not count, nothing changes: a piece then has to be there in time as a whole.
    """
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return b""
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MOVED_AT + 16)[_MOVED_AT:]
    except OSError:  # closed, or no TCP
        return b""


class SlowClient:
    """The client of one request, while its body or its answer is on the way."""

    def __init__(self, clients: SlowClients, connection: socket.socket | None) -> None:
        self._clients = clients
        self.connection = connection
        self.file_bytes = 0
        self.piece: bytes | None = None
        self.share = 1  # bytes in memory for each byte of a piece
        self.sends = True  # its body is awaited; else its answer waits
        self.ended = False

    def close(self) -> None:
        """Forget everything about it. Can be called twice."""
        self._clients._leave(self)

    def grow(self, size_bytes: int) -> None:
        """Count bytes that go to a file. Raise `UnavailableError` if there is room for no more."""
        self._clients._grow(self, size_bytes)

    def hold(self, piece: bytes | None) -> None:
        """Count a piece of an answer in memory, in place of the one before."""
        self._clients._hold(self, piece)

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Wait for the client within the block; meanwhile it may be ended."""
        self._clients._await(self)
        try:
            yield
        finally:
            self._clients._await_no_more(self)


def close_file(kept: IO[bytes]) -> None:
    """Close a file whose bytes are wanted no more: some may be unwritten, and have no room."""
    with contextlib.suppress(OSError):
        kept.close()

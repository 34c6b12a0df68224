"""The listening sockets of an ingester. Each belongs to one greenlet, which drains it and hands on what came.

The sockets are plain ones: waiting is done on their descriptor (ZMQ_FD, edge-triggered, see zmq_getsockopt(3)), and
then they are read without blocking until they are empty.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import gevent
import zmq
from gevent.event import Event
from gevent.hub import get_hub

from ingest.exceptions import BindError
from ingest.settings import ServerKeys
from ingest.transport.server_keys import as_server

HIGH_WATER_COUNT = 1_000  # messages that ZeroMQ holds per sender while nothing is read
# A message above 16 MiB is refused, counted and kept as a hash. Above this ZeroMQ cuts its sender's connection, so that
# nobody's memory is filled, and tells nobody: our own clients refuse to send what is above 16 MiB.
LARGEST_BYTES = 256 * 2**20
DRAIN_COUNT = 1_000  # messages taken at once
DRAIN_BYTES = 2**20
_LENGTH = struct.Struct("<i").unpack_from


def bind(
    context: zmq.Context[Any], kind: int, key: str, address: str, curve: ServerKeys | None = None
) -> zmq.Socket[bytes]:
    """A bound socket with limits set, encrypted when there are keys; then `context` needs a `Gate`.

    Raises `BindError` with the key and the address.
    """
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER_COUNT)
    socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_BYTES)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    as_server(socket, curve)
    try:
        socket.bind(address.replace("tcp://localhost:", "tcp://127.0.0.1:"))
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise BindError(
            f"{key} = {address} cannot be bound: {error.strerror or error}; stop what uses it, or set another address"
        ) from None
    return socket


def bound_address(socket: zmq.Socket[bytes]) -> str:
    """Where the socket really listens."""
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\x00").decode()


class Receiver:
    """Reads one socket in a greenlet as long as it is open. `receive(socket)` takes some messages, and says whether
    there may be more."""

    def __init__(self, socket: zmq.Socket[bytes], receive: Callable[[zmq.Socket[bytes]], bool]) -> None:
        self.socket = socket
        self.receive = receive
        self._open = Event()
        self._open.set()
        self._greenlet: gevent.Greenlet | None = None
        self._watcher = get_hub().loop.io(socket.getsockopt(zmq.FD), 1)
        self._nudged = Event()

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Start reading. `on_failure` is called when reading ends by an error: nothing more comes through then."""
        self._greenlet = gevent.spawn(self._run)
        self._greenlet.link_exception(lambda greenlet: on_failure(greenlet.exception))

    def hold(self) -> None:
        """Stop reading until `release`; senders feel it once ZeroMQ's queues are full."""
        self._open.clear()

    def release(self) -> None:
        """Go on reading."""
        self._open.set()

    @property
    def held(self) -> bool:
        """Whether reading is stopped."""
        return not self._open.is_set()

    def nudge(self) -> None:
        """Look again whether there is something to read: sending on the socket may have eaten the signal."""
        self._nudged.set()

    def _run(self) -> None:
        self._watcher.start(self._nudged.set)
        try:
            while True:
                if self.held:
                    self._wait_for_release()
                self._nudged.clear()
                if self.receive(self.socket):
                    gevent.sleep(0)  # others have their turn
                else:
                    self._nudged.wait()
        finally:
            self._watcher.stop()
            self._watcher.close()

    def _wait_for_release(self) -> None:
        """What is not read keeps the descriptor readable: the loop would do nothing but tell so."""
        self._watcher.stop()
        self._open.wait()
        self._watcher.start(self._nudged.set)

    def stop(self) -> None:
        """Stop reading for good; the socket stays open."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None


def drain(socket: zmq.Socket[bytes]) -> list[bytes]:
    """Payloads of the messages that are there, at most so many; keys in front of them are passed over.

    A frame before the last one is a key (what `zsend ADDRESS KEY` sends); a frame that is one whole BSON document is a
    payload without asking further, which saves a call for most messages.
    """
    messages: list[bytes] = []
    size, receive, more = 0, socket.recv, zmq.RCVMORE
    try:
        while len(messages) < DRAIN_COUNT and size < DRAIN_BYTES:
            frame = receive(zmq.NOBLOCK)
            length = len(frame)
            if length < 5 or _LENGTH(frame)[0] != length:
                while socket.getsockopt(more):
                    frame = receive(zmq.NOBLOCK)
            messages.append(frame)
            size += len(frame)
    except zmq.Again:
        pass
    return messages

"""Bind a listening socket, and read it in one greenlet that owns it.

The sockets are plain ones: the greenlet waits on the descriptor (ZMQ_FD, edge-triggered, see zmq_getsockopt(3)), then
reads without blocking until the socket is empty.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import zmq
from gevent.event import Event
from gevent.hub import get_hub

from ingest.exceptions import BindError
from ingest.settings import ServerKeys
from ingest.transport.address import allow_ipv6
from ingest.transport.hold_decision import LARGE_BYTES, Progress, Reading
from ingest.transport.kernel_socket import limit_segments
from ingest.transport.memory_limit import limit_buffer
from ingest.transport.server_keys import as_server
from ingest.turn import NO_PAUSE, Turn

HIGH_WATER_COUNT = 1_000  # messages that ZeroMQ queues per sender while nothing is read
# A message above 16 MiB is refused, counted and kept as a hash. Above this size ZeroMQ closes the sender's connection
# without an error, so that memory stays bounded; our own clients refuse to send more than 16 MiB.
LARGEST_BYTES = 80 * 2**20
MOST_FRAMES = 100  # of a message that are kept, and the last one; routing, an id and a payload are far fewer
SUBSCRIPTION_BYTES = 2**12  # the largest that a subscriber may send
DRAIN_COUNT = 1_000  # messages read in one turn
DRAIN_BYTES = 2**20
_LENGTH = struct.Struct("<i").unpack_from


def bind(
    context: zmq.Context[Any], kind: int, key: str, address: str, curve: ServerKeys | None = None
) -> zmq.Socket[bytes]:
    """Return a bound socket with limits set, encrypted if there are keys; then `context` needs an `Authenticator`.

    Raise `BindError` with the key and the address.
    """
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER_COUNT)
    socket.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_BYTES if kind in (zmq.PUB, zmq.XPUB) else LARGEST_BYTES)
    limit_buffer(socket)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    as_server(socket, curve)
    allow_ipv6(socket, address)
    try:
        socket.bind(address.replace("tcp://localhost:", "tcp://127.0.0.1:"))
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise BindError(
            f"{key} = {address} cannot be bound: {error.strerror or error}; stop what uses it, or set another address"
        ) from None
    limit_segments(bound_address(socket))
    return socket


def bound_address(socket: zmq.Socket[bytes]) -> str:
    """Return the address at which the socket listens, with the port that was chosen for port 0."""
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\x00").decode()


class SocketReader:
    """Read one socket in a greenlet. `receive(socket)` reads some messages and returns 0 if there are no more."""

    def __init__(self, socket: zmq.Socket[bytes], receive: Callable[[zmq.Socket[bytes]], int]) -> None:
        self.socket = socket
        self.receive = receive
        self._open = Event()
        self._open.set()
        self._greenlet: gevent.Greenlet | None = None
        self._watcher = get_hub().loop.io(socket.getsockopt(zmq.FD), 1)
        self._recheck = Event()
        self._idle = True  # whether no message waits
        self._large_count = self._read_bytes = 0  # large messages are those of `LARGE_BYTES` or more

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Start reading. `on_failure` is called with the error that ends reading; nothing is received after it."""
        self._greenlet = gevent.spawn(self._run)
        self._greenlet.link_exception(lambda greenlet: on_failure(greenlet.exception))

    def pause(self) -> None:
        """Pause reading until `resume`; senders wait once ZeroMQ's queues are full."""
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    @property
    def paused(self) -> bool:
        return not self._open.is_set()

    def progress(self) -> Progress:
        """Return how far the reading is. Can be called from any thread."""
        waiting = Reading.IDLE if self._idle else Reading.BUSY
        return Progress(Reading.PAUSED if self.paused else waiting, self._large_count, self._read_bytes)

    def count(self, messages: Sequence[bytes]) -> int:
        """Count received messages, for `progress`, and return how many of them are large."""
        sizes = [*map(len, messages)]
        count = sum(size >= LARGE_BYTES for size in sizes)
        self._large_count += count
        self._read_bytes += sum(sizes)
        return count

    def recheck(self) -> None:
        """Check the socket again: sending on it can have consumed the edge that reports a new message."""
        self._recheck.set()

    def _run(self) -> None:
        self._watcher.start(self._recheck.set)
        try:
            while True:
                if self.paused:
                    self._wait_for_resume()
                self._recheck.clear()
                self._idle = False
                if self.receive(self.socket):
                    gevent.sleep(0)  # let other greenlets run
                else:
                    self._idle = True
                    self._recheck.wait()
        finally:
            self._watcher.stop()
            self._watcher.close()

    def _wait_for_resume(self) -> None:
        """Wait without the watcher: unread messages keep the descriptor readable, and the loop would spin."""
        self._watcher.stop()
        self._open.wait()
        self._watcher.start(self._recheck.set)

    def stop(self) -> None:
        """Stop reading for good; the socket stays open."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None


def receive_frames(socket: zmq.Socket[bytes], turn: Turn) -> list[bytes]:
    """Return the frames of the next message, without those between the first `MOST_FRAMES` and the last one.

    Raise `zmq.Again` if no message is waiting. A message can have millions of frames: `turn` is called among them, and
    nothing else may receive from the socket then.
    """
    frames = [socket.recv(zmq.NOBLOCK)]
    while socket.getsockopt(zmq.RCVMORE):
        if len(frames) > MOST_FRAMES:
            frames.pop()
            turn()
        frames.append(socket.recv(zmq.NOBLOCK))
    return frames


def drain(socket: zmq.Socket[bytes], turn: Turn = NO_PAUSE) -> list[bytes]:
    """Return the payloads of waiting messages without their keys, until `DRAIN_COUNT` or `DRAIN_BYTES` is reached.

    Frames before the last one are keys (see `zsend ADDRESS KEY`); `turn` is called among them. A frame that is one
    whole BSON document is treated as the payload without asking for more frames, which saves a call for most messages.
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
                    turn()
            messages.append(frame)
            size += len(frame)
    except zmq.Again:
        pass
    return messages

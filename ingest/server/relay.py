"""One relay of a load balancer: a bound socket, connections to a receiver of each child, and a thread between them.

At the end a relay of pushed messages reads what senders have sent (`ingest.transport.socket_drain`), passes it on, and
then sends an end mark until every child has ended: a child that has received the mark has everything. The relay keeps
its connections until then, because ZeroMQ drops unread messages of a local connection whose sender is gone.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from ingest.server.push_reader import PUSH_READERS
from ingest.server.socket_reader import LARGEST_BYTES, bind, bound_address
from ingest.settings import ServerKeys
from ingest.transport import kernel_socket
from ingest.transport.hold_decision import LARGE_BYTES, MAY_BE_DROPPED, Progress, Reading
from ingest.transport.server_keys import Authenticator
from ingest.transport.socket_drain import read_all, receive_some

log = logging.getLogger(__name__)

CHILD_HIGH_WATER_COUNT = 100  # messages on their way to one child
LINGER_MS = 3_000  # at the end: for answers and notices to leave
MARK_EVERY_S = 0.02
STATISTICS_MS = 1_000  # for the proxy to say how much it has passed on
_CONTROL = "inproc://control"


@dataclass(frozen=True, slots=True)
class SocketPair:
    """One address of the load balancer and the socket types on both sides of it."""

    key: str
    front: int
    back: int


SOCKET_PAIRS = (
    SocketPair("bson_bind_address", zmq.PULL, zmq.PUSH),
    SocketPair("json_bind_address", zmq.PULL, zmq.PUSH),
    SocketPair("ack_bind_address", zmq.ROUTER, zmq.DEALER),
    SocketPair("publish_bind_address", zmq.XPUB, zmq.XSUB),
)


class Relay:
    """Pass on the messages of one socket pair in a thread, inside libzmq (zmq_proxy_steerable(3))."""

    def __init__(
        self, pair: SocketPair, address: str, children: Sequence[str], curve: ServerKeys | None, mark: bytes = b""
    ) -> None:
        self.pair = pair
        self.all_delivered = threading.Event()  # set at the end: the children have everything
        self.moved = 0  # at the end: it grows while the relay reads or passes on
        self._mark = mark
        self._children_ended = threading.Event()
        self._children = children
        self._passed_bytes = self._large_count = 0
        self._context: zmq.Context[Any] = zmq.Context()
        self._control = self._context.socket(zmq.PAIR)
        self._control.bind(_CONTROL)
        self._commands = self._context.socket(zmq.PAIR)  # the thread's end
        self._commands.connect(_CONTROL)
        self._authenticator = Authenticator(self._context, curve)
        try:
            self._front = bind(self._context, pair.front, pair.key, address, curve)
        except BaseException:
            self.discard()
            raise
        self.address = bound_address(self._front)
        self._back = self._context.socket(pair.back)
        self._back.setsockopt(zmq.LINGER, LINGER_MS)
        self._back.setsockopt(zmq.SNDHWM, CHILD_HIGH_WATER_COUNT)
        self._back.setsockopt(zmq.RCVHWM, CHILD_HIGH_WATER_COUNT)
        self._back.setsockopt(zmq.MAXMSGSIZE, LARGEST_BYTES)
        if pair.back != zmq.XSUB:
            self._back.setsockopt(zmq.IMMEDIATE, 1)  # only to children that are connected
        for child in children:
            self._back.connect(child)
        self._thread = threading.Thread(target=self._run, name=f"relay-{pair.key}", daemon=True)

    def start(self) -> None:
        """Start the thread, which then owns the sockets."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Return whether the thread has ended, which it does by itself only after an error."""
        return not self._thread.is_alive()

    def progress(self) -> Progress:
        """Return how far the relay is; it reads nothing while no child takes more.

        Any thread may ask, one at a time, until `request_end`. That a large message was passed on shows only in the
        bytes that were (zmq_proxy_steerable(3)).
        """
        if self.pair.front == zmq.XPUB:
            return MAY_BE_DROPPED
        if self._thread.is_alive() and self._control.poll(0, zmq.POLLOUT):
            self._control.send(b"STATISTICS")
            if self._control.poll(STATISTICS_MS):
                passed = struct.unpack("=Q", self._control.recv_multipart()[1])[0]
                self._large_count += passed - self._passed_bytes >= LARGE_BYTES
                self._passed_bytes = passed
        takes_more = any(kernel_socket.is_writable(child) for child in self._children)
        return Progress(Reading.IDLE if takes_more else Reading.PAUSED, self._large_count, self._passed_bytes)

    def request_end(self) -> None:
        """Let the thread pass on what is on its way, then send the end mark until `stop`. Return at once."""
        with contextlib.suppress(zmq.ZMQError):
            self._control.send(b"TERMINATE", zmq.NOBLOCK)  # the proxy answers: closing now would block it for ever

    def stop(self) -> None:
        """Close, for pushed messages after the children have ended. Waits at most `LINGER_MS` for the thread."""
        if not self.all_delivered.is_set():
            self.request_end()
        self._children_ended.set()
        self._thread.join(LINGER_MS / 1000)
        self._control.close(0)
        self._authenticator.close()
        self._context.term()  # ends a thread that still waits for a child; lingers for what is being sent
        self._thread.join()

    def _run(self) -> None:
        # Signals go to the main thread: here one would make the proxy drop the message that it holds.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            zmq.proxy_steerable(self._front, self._back, None, self._commands)
            if self.pair.key in PUSH_READERS:
                self._deliver_the_rest()
        except zmq.ContextTerminated:
            if self.pair.key in PUSH_READERS:
                log.error("last messages are lost, no ingester read them receiver=%s", self.pair.key)  # noqa: TRY400
        finally:
            self._commands.close(0)
            self._front.close(0)
            self._back.close()

    def _deliver_the_rest(self) -> None:
        rest: list[list[bytes]] = []

        def receive() -> int:
            messages = receive_some(self._front)
            rest.extend(messages)
            self.moved += 1
            return len(messages)

        read_all(self._front, self.address, receive)
        self._front.close(0)  # only now, because senders reconnect
        for message in rest:
            self._back.send_multipart(message)  # waits for space
            self.moved += 1
        self.all_delivered.set()
        while not self._children_ended.wait(MARK_EVERY_S):
            with contextlib.suppress(zmq.Again):
                for _ in self._children:  # round robin
                    self._back.send(self._mark, zmq.NOBLOCK)
        self._back.setsockopt(zmq.LINGER, 0)

    def discard(self) -> None:
        """Close a relay that was not started."""
        self._authenticator.close()
        self._context.destroy(0)

"""One line of a load balancer: a bound socket, connections to a receiver of each child, a thread between them.

At the end a relay of pushed messages reads what senders have sent (`ingest.transport.socket_drain`), hands it on, and
then sends an end mark until every child has ended: a child that has received it has everything. The relay keeps its
connections until then, because ZeroMQ drops what is unread of a local connection whose sender is gone.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import zmq

from ingest.server.push_reader import PUSH_READERS
from ingest.server.socket_reader import LARGEST_BYTES, bind, bound_address
from ingest.settings import ServerKeys
from ingest.transport.server_keys import Authenticator
from ingest.transport.socket_drain import move_some, read_all

log = logging.getLogger(__name__)

CHILD_HIGH_WATER_COUNT = 100  # messages on their way to one child
LAST_MS = 3_000  # at the end: for answers and notices to leave
MARK_EVERY_S = 0.02
_CONTROL = "inproc://control"


@dataclass(frozen=True, slots=True)
class RelayedSocket:
    """One address of the load balancer and the socket types on both sides of it."""

    key: str
    front: int
    back: int


RELAYED_SOCKETS = (
    RelayedSocket("bson_bind_address", zmq.PULL, zmq.PUSH),
    RelayedSocket("json_bind_address", zmq.PULL, zmq.PUSH),
    RelayedSocket("ack_bind_address", zmq.ROUTER, zmq.DEALER),
    RelayedSocket("publish_bind_address", zmq.XPUB, zmq.XSUB),
)


class Relay:
    """Carry the messages of one line in a thread of its own, inside libzmq (zmq_proxy_steerable(3))."""

    def __init__(
        self, line: RelayedSocket, address: str, children: Sequence[str], curve: ServerKeys | None, mark: bytes = b""
    ) -> None:
        self.line = line
        self.handed_on = threading.Event()  # set at the end: everything is with the children
        self._mark = mark
        self._children_ended = threading.Event()
        self._children_count = len(children)
        self._context: zmq.Context[Any] = zmq.Context()
        self._control = self._context.socket(zmq.PAIR)
        self._control.bind(_CONTROL)
        self._commands = self._context.socket(zmq.PAIR)  # the thread's end
        self._commands.connect(_CONTROL)
        self._authenticator = Authenticator(self._context, curve)
        try:
            self._front = bind(self._context, line.front, line.key, address, curve)
        except BaseException:
            self.discard()
            raise
        self.address = bound_address(self._front)
        self._back = self._context.socket(line.back)
        self._back.setsockopt(zmq.LINGER, LAST_MS)
        self._back.setsockopt(zmq.SNDHWM, CHILD_HIGH_WATER_COUNT)
        self._back.setsockopt(zmq.RCVHWM, CHILD_HIGH_WATER_COUNT)
        self._back.setsockopt(zmq.MAXMSGSIZE, LARGEST_BYTES)
        if line.back != zmq.XSUB:
            self._back.setsockopt(zmq.IMMEDIATE, 1)  # to a child that is there, or to none
        for child in children:
            self._back.connect(child)
        self._thread = threading.Thread(target=self._run, name=f"relay-{line.key}", daemon=True)

    def start(self) -> None:
        """Start the thread; from now on the sockets are its own."""
        self._thread.start()

    def ask_to_end(self) -> None:
        """Start the end: read what is on its way, hand it on, send the end mark until `stop`. Returns at once."""
        with contextlib.suppress(zmq.ZMQError):
            self._control.send(b"TERMINATE", zmq.NOBLOCK)  # the proxy answers: closing now would block it for ever

    def stop(self) -> None:
        """Close, for pushed messages after the children have ended. Waits at most `LAST_MS` for the thread."""
        if not self.handed_on.is_set():
            self.ask_to_end()
        self._children_ended.set()
        self._thread.join(LAST_MS / 1000)
        self._control.close(0)
        self._authenticator.close()
        self._context.term()  # ends a thread that still waits for a child; lingers for what is being sent
        self._thread.join()

    def _run(self) -> None:
        # Signals go to the main thread: here one would lose the message that the proxy holds.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            zmq.proxy_steerable(self._front, self._back, None, self._commands)
            if self.line.key in PUSH_READERS:
                self._hand_on_the_rest()
        except zmq.ContextTerminated:
            if self.line.key in PUSH_READERS:
                log.error("no ingester took the last messages, they are lost receiver=%s", self.line.key)  # noqa: TRY400
        finally:
            self._commands.close(0)
            self._front.close(0)
            self._back.close()

    def _hand_on_the_rest(self) -> None:
        if not read_all(self.address, partial(move_some, self._front, self._back)):
            log.warning("sender does not pause, its last messages are lost receiver=%s", self.line.key)
        self._front.close(0)  # now its senders reconnect
        self.handed_on.set()
        while not self._children_ended.wait(MARK_EVERY_S):
            with contextlib.suppress(zmq.Again):
                for _ in range(self._children_count):  # round robin
                    self._back.send(self._mark, zmq.NOBLOCK)
        self._back.setsockopt(zmq.LINGER, 0)

    def discard(self) -> None:
        """Close a relay that was not started."""
        self._authenticator.close()
        self._context.destroy(0)

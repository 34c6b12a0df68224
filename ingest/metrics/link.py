"""The publisher's end of the line to the broker: a PUB socket that knows what somebody has subscribed to.

It is an XPUB socket, which hears subscriptions. As long as nobody has subscribed, a PUB socket throws away what it is
given; here the caller knows, and keeps it. A lost connection withdraws the subscriptions at once (`IMMEDIATE`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import zmq

HIGH_WATER_COUNT = 20_000
RECONNECT_MS = 100
RECONNECT_MOST_MS = 1_000
log = logging.getLogger("zibrato")


class BrokerConnection:
    """One socket, made by `connect`. Belongs to one thread; nothing blocks."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address
        self._context: Any = zmq.Context()  # of its own: it can be waited for at the end, and is never gevent's kind
        self._connected_to = ""
        self._impossible = ""  # the last address that was none
        self._topics: set[bytes] = set()
        self.socket: Any = None

    def connect(self) -> None:
        """Connect where the address says, or anew when it says something else. Without an address: stay as it is."""
        try:
            address = self._address()
        except Exception:  # noqa: BLE001 - asked again later: the broker may not have said yet where it is
            return
        if address == self._connected_to and self.socket is not None:
            return
        self._let_go(0)
        made = self._context.socket(zmq.XPUB)
        made.setsockopt(zmq.SNDHWM, HIGH_WATER_COUNT)
        made.setsockopt(zmq.XPUB_NODROP, 1)  # a full queue is said, not hidden
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.IMMEDIATE, 1)
        made.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        made.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST_MS)
        try:
            made.connect(address)
        except zmq.ZMQError as error:
            made.close(linger=0)
            if address != self._impossible:
                self._impossible = address
                log.warning("%s is no address of a broker (%s): measurements wait", address, error)
            return
        self.socket, self._connected_to = made, address

    def hear(self) -> None:
        """Take in what was subscribed to, or no longer is."""
        while self.socket is not None:
            try:
                said = self.socket.recv(zmq.NOBLOCK)
            except zmq.ZMQError:
                return
            if said[:1] == b"\x01":
                self._topics.add(said[1:])
            elif said[:1] == b"\x00":
                self._topics.discard(said[1:])

    @property
    def heard(self) -> bool:
        """Whether anybody listens to anything."""
        return bool(self._topics)

    def wants(self, topic: bytes) -> bool:
        """Whether somebody may want messages that begin with `topic`."""
        return any(topic.startswith(found) or found.startswith(topic) for found in self._topics)

    def send(self, message: bytes) -> bool:
        """Hand over a message; False when the queue is full or there is no connection."""
        try:
            self.socket.send(message, zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def _let_go(self, linger_ms: int) -> None:
        if self.socket is not None:
            self.socket.close(linger=linger_ms)
            self.socket = None
        self._topics.clear()

    def close(self, linger_ms: int) -> None:
        """End the connection; what was handed over is still sent for at most `linger_ms`, which this waits for."""
        self._let_go(linger_ms)
        self._context.term()

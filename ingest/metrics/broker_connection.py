"""The publisher's connection to the broker: a PUB socket that knows the subscriptions.

A PUB socket discards messages without subscribers. This is an XPUB socket, which receives the subscriptions, so that
the caller can keep messages until they are wanted. A lost connection withdraws them at once (`IMMEDIATE`).
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
    """One socket, created by `connect`. Belongs to one thread; only `close` blocks."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address
        self._context: Any = zmq.Context()  # private, so that `close` can wait for it; never gevent's kind
        self._connected_to = ""
        self._bad_address = ""  # the last address to which it could not connect, already logged
        self._topics: set[bytes] = set()
        self.socket: Any = None

    def connect(self) -> None:
        """Connect to the address, again if it has changed. Do nothing while there is no address."""
        try:
            address = self._address()
        except Exception:  # noqa: BLE001 - retried: the broker may not have published its address yet
            return
        if address == self._connected_to and self.socket is not None:
            return
        self._disconnect(0)
        made = self._context.socket(zmq.XPUB)
        made.setsockopt(zmq.SNDHWM, HIGH_WATER_COUNT)
        made.setsockopt(zmq.XPUB_NODROP, 1)  # a full queue raises an error instead of dropping messages
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.IMMEDIATE, 1)
        made.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        made.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST_MS)
        if "[" in address:
            made.setsockopt(zmq.IPV6, 1)
        try:
            made.connect(address)
        except zmq.ZMQError as error:
            made.close(linger=0)
            if address != self._bad_address:
                self._bad_address = address
                log.warning("cannot connect to the broker, measurements wait address=%s error=%s", address, error)
            return
        self.socket, self._connected_to = made, address

    def read_subscriptions(self) -> None:
        while self.socket is not None:
            try:
                change = self.socket.recv(zmq.NOBLOCK)
            except zmq.ZMQError:
                return
            if change[:1] == b"\x01":
                self._topics.add(change[1:])
            elif change[:1] == b"\x00":
                self._topics.discard(change[1:])

    @property
    def subscribed(self) -> bool:
        return bool(self._topics)

    def wants(self, topic: bytes) -> bool:
        """Return True if a subscriber may want messages that start with `topic`."""
        return any(topic.startswith(found) or found.startswith(topic) for found in self._topics)

    def send(self, message: bytes) -> bool:
        """Queue a message. Return False if the queue is full or there is no connection."""
        try:
            self.socket.send(message, zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def _disconnect(self, linger_ms: int) -> None:
        if self.socket is not None:
            self.socket.close(linger=linger_ms)
            self.socket = None
        self._topics.clear()

    def close(self, linger_ms: int) -> None:
        """End the connection. Block for at most `linger_ms` while queued messages are sent."""
        self._disconnect(linger_ms)
        self._context.term()

"""Notices: small BSON messages on the ingester's PUB socket. They may be lost; whoever needs certainty also polls."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import bson
import zmq
from bson.errors import BSONError

from . import gevent_wait
from .client_keys import ClientKeys, as_client
from .handshake import Handshake

log = logging.getLogger(__name__)

COMMITTED = "committed"
AGG_COMPLETE = "agg_complete"
NOTICES = frozenset({AGG_COMPLETE})  # those that a door takes from others and passes on
HIGH_WATER_COUNT = 1_000  # notices kept for a slow subscriber
AGAIN_S = 5.0  # after a refusal

Notice = dict[str, Any]


def committed(through: int, count: int) -> bytes:
    """Events up to id `through` may be read now; `count` were stored since the last such notice."""
    return bson.encode({"$command": COMMITTED, "through": through, "count": count})


def agg_complete(name: str, through: int, docs: int) -> bytes:
    """The aggregate `name` contains the events up to `through`; the ingester's BSON door takes it and publishes it."""
    return bson.encode({"$command": AGG_COMPLETE, "name": name, "through": through, "docs": docs})


def subscribe(
    address: str,
    *,
    timeout_s: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    keys: ClientKeys | None = None,
) -> Iterator[Notice | None]:
    """Yield notices as they come, and None after every `timeout_s` in which none came (default: block for ever).

    Ends when `stop()` is true. Blocks the calling thread, or only its greenlet where gevent has patched the process.
    Reconnects by itself; notices sent meanwhile are lost.
    """
    with contextlib.closing(Subscription(address, keys)) as subscription:
        while not stop():
            yield subscription.receive(timeout_s)


class Subscription:
    """A subscriber's socket. One thread or greenlet uses it; `close` ends it."""

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self._address, self._keys = address, keys
        self._said, self._again_at = "", 0.0
        self._open()

    def _open(self) -> None:
        self._socket = gevent_wait.context().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        as_client(self._socket, self._keys)
        self._handshake = Handshake(self._socket, with_keys=self._keys is not None)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(self._address)

    def receive(self, timeout_s: float | None = None) -> Notice | None:
        """The next notice; None when none came within `timeout_s`. What is no BSON is passed over as None."""
        if not self._wait(math.inf if timeout_s is None else timeout_s):
            return None
        try:
            return bson.decode(self._socket.recv(zmq.NOBLOCK))
        except (BSONError, zmq.Again):
            return None

    def _wait(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not self._socket.poll(int(max(0.0, min(deadline - time.monotonic(), AGAIN_S)) * 1000)):
            self._look()
            if time.monotonic() >= deadline:
                return False
        return True

    def _look(self) -> None:
        """Say once when the ingester refuses us, and knock again now and then: ZeroMQ does not always."""
        self._handshake.look()
        fault = self._handshake.fault
        if fault and fault != self._said:
            log.warning("no notices come, the ingester at %s refuses us: %s", self._address, fault)
        if fault or self._handshake.done:
            self._said = fault
        if self._handshake.given_up and time.monotonic() >= self._again_at:
            self._again_at = time.monotonic() + AGAIN_S
            self.close()
            self._open()

    def close(self) -> None:
        """Close the socket. May be called twice."""
        self._handshake.close()
        self._socket.close(linger=0)

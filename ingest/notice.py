"""Notices: small BSON messages on the ingester's PUB socket. They may be lost; whoever needs certainty also polls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import bson
import zmq
from bson.errors import BSONError

from ingest import green

COMMITTED = "committed"
AGG_COMPLETE = "agg_complete"
NOTICES = frozenset({AGG_COMPLETE})  # those that a door takes from others and passes on
HIGH_WATER_COUNT = 1_000  # notices kept for a slow subscriber

Notice = dict[str, Any]


def committed(through: int, count: int) -> bytes:
    """Events up to id `through` may be read now; `count` were stored since the last such notice."""
    return bson.encode({"$command": COMMITTED, "through": through, "count": count})


def agg_complete(name: str, through: int, docs: int) -> bytes:
    """The aggregate `name` contains the events up to `through`; the ingester's BSON door takes it and publishes it."""
    return bson.encode({"$command": AGG_COMPLETE, "name": name, "through": through, "docs": docs})


def subscribe(
    address: str, *, timeout_s: float | None = None, stop: Callable[[], bool] = lambda: False
) -> Iterator[Notice | None]:
    """Yield notices as they come, and None after every `timeout_s` in which none came (default: block for ever).

    Ends when `stop()` is true. Blocks the calling thread, or only its greenlet where gevent has patched the process.
    Reconnects by itself; notices sent meanwhile are lost.
    """
    with contextlib.closing(Subscription(address)) as subscription:
        while not stop():
            yield subscription.receive(timeout_s)


class Subscription:
    """A subscriber's socket. One thread or greenlet uses it; `close` ends it."""

    def __init__(self, address: str) -> None:
        self._socket = green.context().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(address)

    def receive(self, timeout_s: float | None = None) -> Notice | None:
        """The next notice; None when none came within `timeout_s`. What is no BSON is passed over as None."""
        if not self._socket.poll(None if timeout_s is None else int(timeout_s * 1000)):
            return None
        try:
            return bson.decode(self._socket.recv(zmq.NOBLOCK))
        except (BSONError, zmq.Again):
            return None

    def fileno(self) -> int:
        """Descriptor that becomes readable when notices may have come (edge-triggered, see ZMQ_FD)."""
        return int(self._socket.getsockopt(zmq.FD))

    def close(self) -> None:
        """Close the socket. May be called twice."""
        self._socket.close(linger=0)

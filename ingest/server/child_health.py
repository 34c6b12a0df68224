"""Check that a child of the load balancer still answers, by empty requests to its acknowledged receiver."""

from __future__ import annotations

import contextlib
from typing import Any

import bson
import zmq
from bson.errors import BSONError

FRAMES = (b"balancer", b"health", b"")  # route (the child has one hop), request id, no documents


class ChildHealth:
    """Probe one child. Belongs to one thread; never blocks; `now_s` is a monotonic clock."""

    def __init__(self, context: zmq.Context[Any], address: str) -> None:
        self._context = context
        self._address = address
        self._socket: zmq.Socket[bytes] | None = None
        self._requested_s: float | None = None  # when the unanswered request was sent; None before `restart`
        self.ready = False  # True once the child has answered since `restart`

    def restart(self, now_s: float) -> None:
        """Start over for a new child that listens, or will listen, at the address."""
        self.close()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        self._socket.connect(self._address)
        self.ready = False
        self._request(now_s)

    def check(self, now_s: float) -> float:
        """Read answers and send the next request. Return for how many seconds the child has not answered."""
        if self._socket is None or self._requested_s is None:
            return 0.0
        with contextlib.suppress(zmq.Again, BSONError):
            answer = bson.decode(self._socket.recv_multipart(zmq.NOBLOCK)[-1])
            if "accepted" in answer or "busy" in answer:
                self.ready = True
                self._request(now_s)
        return now_s - self._requested_s

    def _request(self, now_s: float) -> None:
        assert self._socket is not None
        self._requested_s = now_s
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart(FRAMES, zmq.NOBLOCK)

    def close(self) -> None:
        """Stop probing. Can be called twice."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = self._requested_s = None

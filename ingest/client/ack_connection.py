"""One DEALER connection to an acknowledged receiver, for the clients of this package."""

from __future__ import annotations

import time

import zmq

from ..exceptions import DeliveryError
from ..transport import gevent_wait
from ..transport.client_keys import ClientKeys
from ..transport.handshake import connect

HANDSHAKE_CHECK_S = 0.2  # time between checks for a refused key, which ends the wait before its timeout


class AckConnection:
    """A connection for one thread or greenlet at a time. Raise `DeliveryError` if `addr` is not a valid address."""

    def __init__(self, addr: str, keys: ClientKeys | None) -> None:
        self.addr = addr
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self._handshake = connect(self.socket, addr, keys)  # None once a handshake has succeeded

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return once a message can be sent. Raise `DeliveryError` after `timeout_s`, or if the keys are refused."""
        deadline = time.monotonic() + timeout_s
        while not gevent_wait.wait(
            self.socket, zmq.POLLOUT, max(0.0, min(deadline - time.monotonic(), HANDSHAKE_CHECK_S))
        ):
            if self._handshake is not None:
                self._handshake.poll()
            late = time.monotonic() >= deadline
            if self._handshake is not None and self._handshake.fault and (late or self._handshake.never_retries):
                raise DeliveryError(f"the ingester at {self.addr} refuses the connection: {self._handshake.fault}")
            if late:
                raise DeliveryError(f"no ingester listens at {self.addr}: start one, or correct the address")
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._handshake is not None:
            self._handshake.close()
            self._handshake = None

    def close(self) -> None:
        """Close at once. Can be called twice."""
        self._stop_watching()
        self.socket.close(linger=0)

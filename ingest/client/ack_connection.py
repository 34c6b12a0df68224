"""One DEALER connection to an acknowledged door, for `ingest.client`."""

from __future__ import annotations

import time

import zmq

from ..exceptions import DeliveryError
from ..transport import gevent_wait
from ..transport.client_keys import ClientKeys, as_client
from ..transport.handshake import Handshake

LOOK_S = 0.2  # a refused key is told after so long, without waiting for the time-out


class AckConnection:
    """A connection; one thread or greenlet uses it at a time. Raises `DeliveryError` when `addr` is no address."""

    def __init__(self, addr: str, keys: ClientKeys | None) -> None:
        self.addr = addr
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        as_client(self.socket, keys)
        self._handshake: Handshake | None = None  # only until the first has succeeded
        if not addr.startswith("inproc:"):
            self._handshake = Handshake(self.socket, with_keys=keys is not None)
        try:
            self.socket.connect(addr)
        except zmq.ZMQError as error:
            self.close()
            raise DeliveryError(
                f"{addr!r} is no ZeroMQ address ({error.strerror}): allowed is tcp://HOST:PORT or ipc://PATH"
            ) from None

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return once something can be sent. Raises `DeliveryError` after `timeout_s`, or when the keys are refused."""
        deadline = time.monotonic() + timeout_s
        while not gevent_wait.wait(self.socket, zmq.POLLOUT, max(0.0, min(deadline - time.monotonic(), LOOK_S))):
            if self._handshake is not None:
                self._handshake.look()
            late = time.monotonic() >= deadline
            if self._handshake is not None and self._handshake.fault and (late or self._handshake.given_up):
                raise DeliveryError(f"the ingester at {self.addr} refuses us: {self._handshake.fault}")
            if late:
                raise DeliveryError(f"no ingester listens at {self.addr}: start one, or correct the address")
        self._watch_no_longer()

    def _watch_no_longer(self) -> None:
        if self._handshake is not None:
            self._handshake.close()
            self._handshake = None

    def close(self) -> None:
        """Close at once. May be called twice."""
        self._watch_no_longer()
        self.socket.close(linger=0)

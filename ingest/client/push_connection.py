"""One PUSH connection to an ingester, which queues messages and reports when all of them have left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import zmq

from ..exceptions import DeliveryError
from ..transport.client_keys import ClientKeys
from ..transport.gevent_wait import BackgroundThread
from ..transport.handshake import Handshake, connect

_GRACE_S = 1.0  # ZeroMQ lingers this much longer than we wait, so that an end in time means sent, not dropped


class PushConnection:
    """A PUSH socket in its own context. Not thread-safe: its owner holds a lock. Never blocks.

    The first message is accepted once an ingester has answered. From then on up to `high_water_count` messages are
    queued, and stay queued if the connection is lost; messages in transit are lost with it.
    Raise `DeliveryError` if `addr` is not a valid address.
    """

    def __init__(self, addr: str, high_water_count: int, keys: ClientKeys | None = None) -> None:
        self._pid = os.getpid()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, high_water_count)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._handshake: Handshake | None = None
        try:
            self._handshake = connect(self._socket, addr, keys)
        except DeliveryError:
            BackgroundThread(self._context.term)
            raise

    @property
    def connected(self) -> bool:
        """Return whether an ingester has ever answered."""
        return self._handshake is None or self._handshake.done

    @property
    def fault(self) -> str:
        """Return why the ingester refuses the connection; empty if it does not, or none answered."""
        return self._handshake.fault if self._handshake is not None else ""

    @property
    def broken(self) -> bool:
        """Return whether the ingester now refuses a connection that it accepted before: queued messages are lost."""
        if self._handshake is None or not self._handshake.poll():
            return False
        return self._handshake.never_retries

    @property
    def descriptor(self) -> int:
        """Return a descriptor that becomes readable when `try_send` can succeed (edge-triggered: retry at times)."""
        if self._handshake is not None and not self._handshake.done:
            return self._handshake.descriptor
        return int(self._socket.getsockopt(zmq.FD))

    def try_send(self, frames: Sequence[bytes]) -> bool:
        """Queue a message; return False if no ingester has answered yet or the queue is full."""
        if not self.connected and self._handshake is not None and not self._handshake.poll():
            return False
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close_in_background(self, within_s: float | None) -> BackgroundThread:
        """Close the socket and keep sending in the background; return the thread that ends once everything has left.

        After `within_s` the rest is dropped (None = never, for as long as the process lives).
        """
        if self._handshake is not None:
            self._handshake.close()
        self._socket.close(linger=-1 if within_s is None else int((within_s + _GRACE_S) * 1000))
        return BackgroundThread(self._context.term)

    def __del__(self) -> None:
        # Collecting a context that has an open socket would block.
        if os.getpid() == self._pid and hasattr(self, "_socket") and not self._socket.closed:
            with contextlib.suppress(zmq.ZMQError, RuntimeError, OSError):
                self.close_in_background(_GRACE_S)

"""One PUSH connection to an ingester: taking messages, and knowing when all of them have left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import zmq

from ..exceptions import DeliveryError
from ..transport.client_keys import ClientKeys, as_client
from ..transport.gevent_wait import BackgroundThread
from ..transport.handshake import Handshake

_GRACE_S = 1.0  # ZeroMQ goes on for so much longer than is waited: what ended in time was sent, not dropped


class PushConnection:
    """A PUSH socket in a context of its own. Used under a lock by whoever owns it; never blocks.

    The first message is taken once a listener has answered. From then on messages are queued, `high_water_count` at
    most, over losses of the connection too; what was in the connection itself is lost with it.
    Raises `DeliveryError` when `addr` is no address.
    """

    def __init__(self, addr: str, high_water_count: int, keys: ClientKeys | None = None) -> None:
        self._pid = os.getpid()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, high_water_count)
        self._socket.setsockopt(zmq.LINGER, 0)
        as_client(self._socket, keys)
        self._handshake: Handshake | None = None
        if not addr.startswith("inproc:"):
            self._handshake = Handshake(self._socket, with_keys=keys is not None)
        try:
            self._socket.connect(addr)
        except zmq.ZMQError as error:
            self._abandon(0)
            raise DeliveryError(
                f"{addr!r} is no ZeroMQ address ({error.strerror}): allowed is tcp://HOST:PORT or ipc://PATH"
            ) from None

    @property
    def connected(self) -> bool:
        """Whether a listener has ever answered."""
        return self._handshake is None or self._handshake.done

    @property
    def fault(self) -> str:
        """Why the listener refuses us; empty when it does not, or there is none."""
        return self._handshake.fault if self._handshake is not None else ""

    @property
    def broken(self) -> bool:
        """Whether the listener has refused us for good, although it took us before: what was queued is lost."""
        if self._handshake is None or not self._handshake.look():
            return False
        return self._handshake.given_up

    @property
    def descriptor(self) -> int:
        """Becomes readable when `offer` may succeed where it failed; must be looked at again after a while."""
        if self._handshake is not None and not self._handshake.done:
            return self._handshake.descriptor
        return int(self._socket.getsockopt(zmq.FD))

    def offer(self, frames: Sequence[bytes]) -> bool:
        """Queue a message; False when there is no listener yet, or no room."""
        if not self.connected and self._handshake is not None and not self._handshake.look():
            return False
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def leave(self, within_s: float | None) -> BackgroundThread:
        """Take no more, and go on sending; what is returned is done once everything has left.

        After `within_s` what is left is dropped; None = never, as long as the process lives.
        """
        return self._abandon(-1 if within_s is None else int((within_s + _GRACE_S) * 1000))

    def _abandon(self, linger_ms: int) -> BackgroundThread:
        if self._handshake is not None:
            self._handshake.close()
        self._socket.close(linger=linger_ms)
        return BackgroundThread(self._context.term)

    def __del__(self) -> None:
        # A context that is collected with an open socket would wait for it.
        if os.getpid() == self._pid and hasattr(self, "_socket") and not self._socket.closed:
            with contextlib.suppress(zmq.ZMQError, RuntimeError, OSError):
                self.leave(_GRACE_S)

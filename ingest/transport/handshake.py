"""Watch the ZeroMQ handshakes of a socket and explain those that fail.

libzmq reports them only to a monitor (zmq_socket_monitor(3)). After some failures it never retries on that socket: its
owner must open another.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
from typing import Any

import zmq

from ..exceptions import DeliveryError
from .address import allow_ipv6
from .client_keys import ClientKeys, as_client

OUTCOMES = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
FINAL_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_EVENT = struct.Struct("=Hi").unpack_from
_numbers = itertools.count()


class Handshake:
    """Track the handshakes of one socket. Use it only in the thread or greenlet that owns the socket; never blocks.

    Create it before `connect`, and `close` it before the socket.
    """

    def __init__(self, socket: zmq.Socket[Any], *, with_keys: bool) -> None:
        self._socket = socket
        self._with_keys = with_keys
        self._monitor: Any = None
        self.done = False  # whether one has ever succeeded
        self.fault = ""  # why the last one failed; empty if it did not
        self.never_retries = False  # whether the socket will never retry
        self._watch(OUTCOMES)

    def poll(self) -> bool:
        """Process pending monitor events; return whether a handshake has ever succeeded."""
        while self._monitor is not None:
            try:
                event = _EVENT(self._monitor.recv_multipart(zmq.NOBLOCK)[0])[0]
            except zmq.Again:
                break
            self._process(event)
        if self.done and not self.never_retries and self._watched != FINAL_FAILURES:
            # From now on only one-time events: `poll` may never be called again, and a full monitor blocks the socket.
            self._watch(FINAL_FAILURES)
        return self.done

    def _process(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.done, self.fault = True, ""
        elif event & OUTCOMES:
            self.fault = self._reason(event)
            self.never_retries = bool(event & FINAL_FAILURES)

    def _reason(self, event: int) -> str:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return "it does not know this key: is its file still in `keys/ingest-clients` there?"
        if self._with_keys:
            return "its key is not the one in our key file, or it has none: copy the file from there again"
        return "it accepts only senders with keys: pass a key file from its `keys/ingest-clients`"

    @property
    def descriptor(self) -> int:
        """Return a descriptor that becomes readable when `poll` has events to process (edge-triggered, see ZMQ_FD)."""
        return int(self._monitor.getsockopt(zmq.FD))

    def _watch(self, events: int) -> None:
        self.close()
        self._watched = events
        name = f"inproc://handshake-{next(_numbers)}"
        self._socket.monitor(name, events)
        self._monitor = self._socket.context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.connect(name)

    def close(self) -> None:
        """Stop watching. Can be called twice."""
        if self._monitor is not None:
            monitor, self._monitor = self._monitor, None
            with contextlib.suppress(zmq.ZMQError):
                self._socket.disable_monitor()
            monitor.close(linger=0)


def connect(socket: zmq.Socket[Any], address: str, keys: ClientKeys | None) -> Handshake | None:
    """Connect a sender's socket and return what watches its handshakes; None for `inproc`, which has none.

    Raise `DeliveryError` if the address is not valid; the socket is closed then.
    """
    as_client(socket, keys)
    allow_ipv6(socket, address)
    handshake = None if address.startswith("inproc:") else Handshake(socket, with_keys=keys is not None)
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        if handshake is not None:
            handshake.close()
        socket.close(linger=0)
        raise DeliveryError(
            f"{address!r} is not a ZeroMQ address ({error.strerror}): use tcp://HOST:PORT or ipc://PATH"
        ) from None
    return handshake


def check_address(address: str) -> None:
    """Raise `DeliveryError` if the address is not valid, as a client does at its first send."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if handshake := connect(socket, address, None):
            handshake.close()

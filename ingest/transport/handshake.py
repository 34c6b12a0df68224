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

UNTIL_DONE = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
FOR_GOOD = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
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
        self.given_up = False  # whether the socket will never retry
        self._watch(UNTIL_DONE)

    def look(self) -> bool:
        """Process pending monitor events; return whether a handshake has ever succeeded."""
        while self._monitor is not None:
            try:
                event = _EVENT(self._monitor.recv_multipart(zmq.NOBLOCK)[0])[0]
            except zmq.Again:
                break
            self._note(event)
        if self.done and not self.given_up and self._watched != FOR_GOOD:
            # From now on only one-time events: `look` may not be called again, and a full monitor blocks the socket.
            self._watch(FOR_GOOD)
        return self.done

    def _note(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.done, self.fault = True, ""
        elif event & UNTIL_DONE:
            self.fault = self._reason(event)
            self.given_up = bool(event & FOR_GOOD)

    def _reason(self, event: int) -> str:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return "it does not know this key: is its file still in `keys/ingest-clients` there?"
        if self._with_keys:
            return "its key is not the one in our key file, or it has none: copy the file from there again"
        return "it takes only senders with keys: pass a key file from its `keys/ingest-clients`"

    @property
    def descriptor(self) -> int:
        """Return a descriptor that becomes readable when `look` has events to process (edge-triggered, see ZMQ_FD)."""
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
        """Stop watching. May be called twice."""
        if self._monitor is not None:
            monitor, self._monitor = self._monitor, None
            with contextlib.suppress(zmq.ZMQError):
                self._socket.disable_monitor()
            monitor.close(linger=0)

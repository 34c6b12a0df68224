"""Stop reading a ZeroMQ socket without losing what senders consider sent.

A sender considers a message sent once the kernel has it. The message is then in the kernel's buffers or in the socket's
queue, and is lost when the socket is closed or unbound: libzmq 4.3 closes a listener's connections with it. So the end
takes three steps: read until nothing is on its way; shut down our half of each connection, so that the sender closes
its half and keeps the rest for the next listener; read until the connections are gone. The connections are ZeroMQ's:
they are found by their address among the descriptors of this process and used through duplicates (dup(2), shutdown(2),
FIONREAD in tcp(7) and unix(7)).

Shut down late, and never where the sender has closed already: ZeroMQ drops what is unread of a connection that is
closed on both sides while its receiver's queue is full. A local (ipc) connection counts as such once the sender has
closed it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import stat
import struct
import termios
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import zmq

PAUSE_WITHIN_S = 1.0  # for senders to pause; after it their connections are shut down
CLOSE_WITHIN_S = 10.0  # for one that does not close then; ZeroMQ's do
QUIET_S = 0.3  # a sender that was shut down, has not closed and is silent for this long hangs
MOVE_COUNT = 100  # messages moved in one turn
SPACE_WITHIN_MS = 20
_PAUSE_S = 0.002
_DESCRIPTORS = "/dev/fd"
_PEER_CLOSED = getattr(select, "POLLRDHUP", 0)  # Linux


def read_all(address: str, read: Callable[[], bool | None], *, accepted: bool = True) -> bool:
    """Call `read` until everything that senders consider sent is read; return False if a sender never pauses or ends.

    `address` is that of the bound socket or, unless `accepted`, the one it is connected to. `read` reads some messages
    and returns whether there may be more, or None while there is no space for them, which may last. Close the socket
    directly afterwards, because senders reconnect.
    """
    before = heard = time.monotonic()
    read_s, asked = 0.0, False
    while True:
        gone = asked and not connected(address, accepted=accepted)  # before reading: all of it has arrived
        unread = 0 if gone else unread_bytes(address, accepted=accepted)
        took = read()
        now = time.monotonic()
        read_s, before = read_s + (now - before if took is not None else 0.0), now
        if took or unread or took is None:
            heard = now
        elif gone or (asked and now - heard > QUIET_S):
            return True
        if read_s > PAUSE_WITHIN_S + CLOSE_WITHIN_S:
            return False
        if asked or heard < now or read_s > PAUSE_WITHIN_S:
            asked = True
            end_senders(address, accepted=accepted)  # each time: a sender may have just connected
        if not took:
            time.sleep(_PAUSE_S)


def move_some(front: zmq.Socket[bytes], back: zmq.Socket[bytes]) -> bool | None:
    """Move at most `MOVE_COUNT` messages; return whether there may be more, None while `back` has no space."""
    for moved in range(MOVE_COUNT):
        if not back.poll(SPACE_WITHIN_MS, zmq.POLLOUT):
            return None
        try:
            message = front.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return moved > 0
        back.send_multipart(message)
    return True


def connected(address: str, *, accepted: bool = True) -> bool:
    return any(True for _ in _connections(address, accepted))


def unread_bytes(address: str, *, accepted: bool = True) -> int:
    """Return how many bytes the kernel holds that the socket has not taken yet."""
    return sum(_unread_bytes(connection) for connection in _connections(address, accepted))


def end_senders(address: str, *, accepted: bool = True) -> None:
    """Shut down our half of each connection: the senders close theirs and reconnect."""
    for connection in _connections(address, accepted):
        if not _closed_by_peer(connection):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)


def _closed_by_peer(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, _PEER_CLOSED)
    return bool(poll.poll(0))


def _unread_bytes(connection: socket.socket) -> int:
    with contextlib.suppress(OSError):
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))[0])
    return 0


def _connections(address: str, accepted: bool) -> Iterator[socket.socket]:
    """Yield duplicates of the connections, each open until the next is asked for."""
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - numbers are wanted
        if (found := _duplicate(int(name))) is None:
            continue
        with found:
            try:
                ours, theirs = found.getsockname(), found.getpeername()
            except OSError:  # a listener, or gone
                continue
            if _matches(ours if accepted else theirs, address):
                yield found


def _duplicate(descriptor: int) -> socket.socket | None:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        return socket.socket(fileno=os.dup(descriptor))
    except OSError:  # closed meanwhile
        return None


def _matches(name: object, address: str) -> bool:
    """Return whether the end of a connection is at a ZeroMQ address; TCP is compared by port."""
    if isinstance(name, tuple):
        return address.startswith("tcp:") and name[1] == urlsplit(address).port
    path = os.fsdecode(name) if isinstance(name, bytes) else name
    return bool(path) and address == f"ipc://{path}".replace("\0", "@")

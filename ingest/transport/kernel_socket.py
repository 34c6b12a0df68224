"""Find the kernel's sockets behind a ZeroMQ socket, and ask or change what ZeroMQ has no option for.

They are found by their address among the descriptors of this process, and used through duplicates (dup(2), FIONREAD,
TCP_INFO and TCP_MAXSEG in tcp(7), unix(7)).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import stat
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

SEGMENT_BYTES = 4096
_DESCRIPTORS = "/dev/fd"
_MEMORY_INFORMATION = 55  # SO_MEMINFO in asm-generic/socket.h
_DROPS = struct.Struct("32xI")  # SK_MEMINFO_DROPS in linux/sock_diag.h
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # one instruction: 0 bytes of every packet
_LAST_RECEIVED_MS = struct.Struct("52xI")  # tcpi_last_data_recv in linux/tcp.h
RECEIVED_BYTES = struct.Struct("128xQ")  # tcpi_bytes_received of TCP_INFO
DROP_PACKETS = 26, struct.pack("HL", 1, ctypes.addressof(_DROP_ALL))  # SO_ATTACH_FILTER in socket(7), and its value
ACCEPT_PACKETS = 27, 0  # SO_DETACH_FILTER


def limit_segments(address: str) -> None:
    """Let who connects to the listener at `address` send in small segments, where the system can do so.

    On loopback a segment has 64 KiB, which can be more than the window of a receiver that is held up for a while. Both
    sides then wait for the other, the sender with pauses that become as long as it was held up.
    """
    if address.startswith("tcp:"):
        with contextlib.suppress(OSError):
            for listener in listeners(address):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)


def refuse_senders(listener: socket.socket) -> None:
    """Let no sender connect any more, where the system can do so; they retry until a process listens again."""
    with contextlib.suppress(OSError, ValueError):  # not Linux, or a local address without a file
        if listener.family == socket.AF_UNIX:
            Path(os.fsdecode(listener.getsockname())).unlink()
        else:
            drop_packets(listener)


def drop_packets(each: socket.socket) -> None:
    """Drop what arrives, until `accept_packets`; TCP repeats it. Raise `OSError` where the system cannot do so."""
    each.setsockopt(socket.SOL_SOCKET, *DROP_PACKETS)


def accept_packets(each: socket.socket) -> None:
    """Accept packets again. Raise `OSError` if none were dropped."""
    each.setsockopt(socket.SOL_SOCKET, *ACCEPT_PACKETS)


def silent_s(connection: socket.socket, default_s: float) -> float:
    """Return for how long nothing has arrived; `default_s` where the system does not say so."""
    milliseconds = _information(connection, _LAST_RECEIVED_MS)
    return default_s if milliseconds is None else milliseconds / 1000


def received_bytes(connection: socket.socket) -> int | None:
    """Return how many bytes have arrived so far; None where the system does not say so."""
    return _information(connection, RECEIVED_BYTES)


def _information(connection: socket.socket, field: struct.Struct) -> int | None:
    try:
        return int(field.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, field.size))[0])
    except (OSError, AttributeError, struct.error):  # a local connection, or not Linux
        return None


def dropped_packets(connection: socket.socket) -> int | None:
    """Return how many packets from the other end were dropped so far; None where the system does not say so."""
    try:
        return int(_DROPS.unpack(connection.getsockopt(socket.SOL_SOCKET, _MEMORY_INFORMATION, _DROPS.size))[0])
    except (OSError, struct.error):
        return None


def unread_bytes(connection: socket.socket) -> int:
    """Return how many bytes the kernel holds that ZeroMQ has not taken yet."""
    with contextlib.suppress(OSError):
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))[0])
    return 0


def connected(address: str, accepted: bool = True) -> bool:
    """Return whether any sender is connected, or will be in a moment."""
    # In this order, since a sender that is accepted in between is to be seen.
    return acceptable(address) or any(True for _ in connections(address, accepted))


def is_writable(address: str) -> bool:
    """Return whether a connection that was made to a local address takes more now."""
    poll = select.poll()
    for connection in connections(address, accepted=False):
        poll.register(connection, select.POLLOUT)
        if poll.poll(0):
            return True
        poll.unregister(connection)
    return False


def acceptable(address: str) -> bool:
    """Return whether a sender has connected that ZeroMQ has not accepted yet."""
    poll = select.poll()
    for listener in listeners(address):
        poll.register(listener, select.POLLIN)
        if poll.poll(0):
            return True
    return False


def listeners(address: str) -> Iterator[socket.socket]:
    """Yield the listeners of a bound socket, each until the next is asked for."""
    return (each for each in _sockets(address, socket.socket.getsockname) if _is_listening(each))


def connections(address: str, accepted: bool) -> Iterator[socket.socket]:
    """Yield the connections of a bound or, unless `accepted`, connected socket, each until the next is asked for."""
    name_of = socket.socket.getsockname if accepted else socket.socket.getpeername
    return (each for each in _sockets(address, name_of) if not _is_listening(each))


def descriptors() -> list[int]:
    """Return the descriptors of this process."""
    return list(map(int, os.listdir(_DESCRIPTORS)))  # noqa: PTH208 - numbers are wanted


def _is_listening(each: socket.socket) -> bool:
    return bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _sockets(address: str, name_of: Callable[[socket.socket], object]) -> Iterator[socket.socket]:
    """Yield duplicates of the sockets whose name is a ZeroMQ address, each open until the next is asked for."""
    for descriptor in descriptors():
        if (found := _duplicate(descriptor)) is None:
            continue
        with found:
            try:
                matches = _matches(name_of(found), address)
            except OSError:  # not connected, or gone
                continue
            if matches:
                yield found


def _duplicate(descriptor: int) -> socket.socket | None:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        return socket.socket(fileno=os.dup(descriptor))
    except OSError:  # closed meanwhile
        return None


def _matches(name: object, address: str) -> bool:
    """Return whether a name is that of a ZeroMQ address; TCP is compared by port."""
    if isinstance(name, tuple):
        return address.startswith("tcp:") and name[1] == urlsplit(address).port
    path = os.fsdecode(name) if isinstance(name, bytes) else name
    return bool(path) and address == f"ipc://{path}".replace("\0", "@")

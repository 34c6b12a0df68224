"""Slow down single connections of ZeroMQ sockets: what their senders send then waits with them.

libzmq's own limit counts messages, and only whole ones. What bounds bytes is the window of TCP: a sender may have no
more of them on their way. TCP_WINDOW_CLAMP in tcp(7) limits it for an open connection; nothing is dropped, and the
sender waits without a time limit. With the smallest window that the kernel knows some kilobytes a second still arrive,
so a connection that is held for long is shut for most of the time: its packets are dropped, and repeated by TCP.

Connections are found among the descriptors of this process (`ingest.transport.kernel_socket`). Linux only; local ones
(`ipc://`) cannot be held.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from ingest.transport import kernel_call, kernel_socket

RECEIVE_BUFFER_BYTES = 2**18  # of the kernel, for one connection: what arrives at once when it is opened
_WINDOW_CLAMP = getattr(socket, "TCP_WINDOW_CLAMP", 10)


class Window(Enum):
    """Say how much the sender of a connection may send before it has to wait."""

    OPEN = "open"
    NARROW = "narrow"  # a segment at a time
    HELD = "held"  # some kilobytes a second
    SHUT = "shut"  # nothing
    ENDED = "ended"  # nothing any more: it is ended


_BYTES = {Window.OPEN: 2**30, Window.NARROW: kernel_socket.SEGMENT_BYTES, Window.HELD: 1, Window.SHUT: 1}


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection that a bound socket has accepted."""

    cookie: int  # which identifies it
    descriptor: int
    address: str  # of the bound socket
    received_bytes: int  # so far


class ConnectionHolder:
    """Find the connections to the sockets bound at `addresses`, and set their windows. For one thread at a time."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = {urlsplit(address).port: address for address in addresses if address.startswith("tcp:")}
        self._ports: dict[int, int] = {}  # by cookie; 0 if the socket is bound to none of the addresses

    def connections(self) -> list[Connection]:
        """Return all connections, without those whose sender has just connected."""
        found = list(self._found()) if self._addresses else []
        if len(self._ports) > 4 * len(found) + 1_000:
            self._ports.clear()
        return found

    def _found(self) -> Iterator[Connection]:
        for descriptor in kernel_socket.descriptors():
            with contextlib.suppress(OSError):  # none of a socket, or closed meanwhile
                cookie = kernel_call.cookie(descriptor)
                if cookie not in self._ports:
                    port = kernel_call.accepted_port(descriptor)
                    self._ports[cookie] = port if port in self._addresses else 0
                if self._ports[cookie]:
                    received = kernel_call.option(
                        descriptor, socket.IPPROTO_TCP, socket.TCP_INFO, kernel_socket.RECEIVED_BYTES
                    )
                    yield Connection(cookie, descriptor, self._addresses[self._ports[cookie]], received)

    def refuse_newcomers(self, *, refused: bool) -> None:
        """Let nobody connect, or anybody; who tries meanwhile repeats it after 1, 3 and 7 s, as TCP does (RFC 6298)."""
        for address in self._addresses.values():
            for listener in kernel_socket.listeners(address):
                with contextlib.suppress(OSError):
                    (kernel_socket.drop_packets if refused else kernel_socket.accept_packets)(listener)

    def set_window(self, connection: Connection, window: Window, before: Window = Window.OPEN) -> None:
        """Set the window of a connection, unless it is gone meanwhile. Raise `OSError` where the system cannot."""
        try:
            duplicate = kernel_call.duplicate(connection.descriptor)  # so that it stays the same until the end
        except OSError:
            return
        try:
            if _cookie(duplicate) != connection.cookie:
                return
            if window is Window.ENDED:
                kernel_call.end(duplicate)
                return
            kernel_call.set_option(duplicate, socket.IPPROTO_TCP, _WINDOW_CLAMP, _BYTES[window])
            if window is Window.SHUT:
                kernel_call.set_option(duplicate, socket.SOL_SOCKET, *kernel_socket.DROP_PACKETS)
            elif before is Window.SHUT:
                kernel_call.set_option(duplicate, socket.SOL_SOCKET, *kernel_socket.ACCEPT_PACKETS)
        finally:
            kernel_call.close(duplicate)


def _cookie(descriptor: int) -> int:
    try:
        return kernel_call.cookie(descriptor)
    except OSError:
        return 0

"""Stop reading a ZeroMQ socket without losing what senders consider sent.

A sender considers a message sent once the kernel has it. The message is then in the kernel's buffers or in the socket's
queue, and is lost when the socket is closed or unbound: libzmq 4.3 closes a listener's connections with it. So the end
takes three steps: let no new sender connect; shut down our half of each connection, so that its sender closes the other
half and keeps the rest for the next listener; read until all are gone.

A connection is shut down while its sender pauses, since a sender loses the message that it has written in part; one
that never pauses loses this message. It is shut down while its queue cannot become full, because ZeroMQ drops what is
unread of a connection that is closed on both sides while its queue is full. For senders that are too fast for that the
limit of the queues is lifted. They are held up meanwhile, with nothing left to read: a connection that is full would
not be resumed, and one that is being closed would crash libzmq.

The connections are ZeroMQ's: they are found by their address among the descriptors of this process and used through
duplicates (dup(2), shutdown(2), FIONREAD and TCP_INFO in tcp(7), unix(7)).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import select
import socket
import stat
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 0.05  # a sender that has paused for this long is between two messages
PAUSE_WITHIN_S = 0.5  # for a sender to pause, for shorter and shorter times; after twice this it is shut down anyway
SILENT_S = 1.0  # a sender that was shut down, has not closed and is silent for this long hangs
IO_THREAD_WITHIN_MS = 1_000  # for it to carry out what it was told
CLOSE_WITHIN_S = 10.0  # longer than `SILENT_S`, for one that goes on sending; ZeroMQ's close at once
RECEIVE_COUNT = 1_000  # messages received in one turn
QUEUE_COUNT = 2**20  # messages in the queue of one sender: more than the kernel's buffers hold
_TURN_S = 0.002
_DESCRIPTORS = "/dev/fd"
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER in socket(7)
_DETACH_FILTER = 27
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # one instruction: return 0 bytes of every packet
_LAST_RECEIVED_MS = struct.Struct("52xI")  # tcpi_last_data_recv in linux/tcp.h


def read_all(bound: zmq.Socket[Any], address: str, receive: Callable[[], int], *, accepted: bool = True) -> None:
    """Call `receive` until everything that senders consider sent is read and they keep the rest.

    `address` is where the socket is bound or, unless `accepted`, connected. `receive` receives some waiting messages
    without waiting for more, and returns how many. Log it if a sender does not end or cannot be ended. Close the socket
    directly afterwards.
    """
    try:
        drain = _Drain(bound, address, accepted)
        while True:
            drain.end_senders()  # before receiving: what those that are gone have sent has arrived
            received = receive()
            if drain.ended(received):
                return
            if not received:
                time.sleep(_TURN_S)
    except zmq.ContextTerminated:
        raise
    except OSError as error:  # such as too many open files
        _log_dropped(address, error)
        while receive():
            pass
    except zmq.ZMQError as error:
        _log_dropped(address, error)


def _log_dropped(address: str, error: Exception) -> None:
    log.error("senders cannot be ended, their last messages are dropped address=%s error=%r", address, error)


def receive_some(source: zmq.Socket[bytes]) -> list[list[bytes]]:
    """Return at most `RECEIVE_COUNT` waiting messages, each with all its frames."""
    messages: list[list[bytes]] = []
    with contextlib.suppress(zmq.Again):
        while len(messages) < RECEIVE_COUNT:
            messages.append(source.recv_multipart(zmq.NOBLOCK))
    return messages


class _Drain:
    """The senders of one socket while it is read for the last time. Times are of `time.monotonic`."""

    def __init__(self, bound: zmq.Socket[Any], address: str, accepted: bool) -> None:
        self._bound = bound
        self._address = address
        self._accepted = accepted
        self._few = int(bound.getsockopt(zmq.RCVHWM)) // 8
        self._silent_s = SILENT_S
        self._started = self._heard = time.monotonic()
        self._can_hold = sys.platform == "linux" and address.startswith("tcp:")
        self._held: float | None = None  # since when the senders' packets are dropped
        self._received = self._started  # when messages were received last
        self._lifted: float | None = None  # since when the queues have no limit
        self._calm = False  # whether the queues are empty and fill slowly
        if accepted:
            for listener in _listeners(address):
                _refuse_senders(listener)

    def end_senders(self) -> None:
        """Shut down the connections of senders that pause or have had their time, while no queue can become full."""
        self._connected = self._unread = False
        now = time.monotonic()
        elapsed_s = now - (self._lifted or self._started)
        pause_s = LONGEST_PAUSE_S * (1 - elapsed_s / PAUSE_WITHIN_S)
        late = self._lifted is not None and elapsed_s > 2 * PAUSE_WITHIN_S
        for connection in connections(self._address, self._accepted):
            self._connected = True
            unread = unread_bytes(connection)
            self._unread |= unread > 0
            pauses = not unread and _silent_s(connection, now - self._heard) >= pause_s
            if late or (pauses and (self._calm or self._lifted)):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)

    def ended(self, received: int) -> bool:
        """Return whether nothing is left to read, after `received` messages were."""
        now = time.monotonic()
        if received:
            self._received = now
        if received or self._unread:
            self._heard = now
        elif now - self._heard > self._silent_s or not (self._connected or connected(self._address, self._accepted)):
            return True
        # Senders that are held up send nothing: what they have sent is read for as long as it arrives.
        ending_since = self._lifted or (max(self._held, self._received) if self._held else self._started)
        if self._connected and now - ending_since > CLOSE_WITHIN_S + self._silent_s:
            log.warning("sender does not stop sending, its last messages are dropped address=%s", self._address)
            return True
        if self._lifted is None:
            self._check_queues(received, now)
        return False

    def _check_queues(self, received: int, now: float) -> None:
        """Check whether the queues can become full. If so, hold the senders up, and lift the limit of the queues."""
        empty = not self._unread and not self._bound.poll(0)
        self._calm = empty and received <= self._few
        if self._held is not None and empty:
            self._lift_limit()
            self._silent_s += 2 * (now - self._held)  # TCP repeats what was dropped, at growing intervals
            self._lifted = now
        elif self._held is None and not self._calm and now - self._started > PAUSE_WITHIN_S:
            if self._can_hold and self._for_each_connection(_drop_packets):
                self._held = now
            else:
                self._for_each_connection(_accept_packets)
                self._lifted = now

    def _lift_limit(self) -> None:
        for _ in range(2):  # ending a connection takes libzmq two; until then changing the limit crashes it
            _pass_io_thread(self._bound.context)
            self._bound.poll(0)
        self._bound.setsockopt(zmq.RCVHWM, QUEUE_COUNT)
        self._for_each_connection(_accept_packets)

    def _for_each_connection(self, change: Callable[[socket.socket], None]) -> bool:
        """Change all connections; return False if the system does not allow that for one of them."""
        allowed = True
        for connection in connections(self._address, self._accepted):
            try:
                change(connection)
            except OSError:
                allowed = False
        return allowed


def _pass_io_thread(context: zmq.Context[Any]) -> None:
    """Return once the I/O thread of `context` has carried out what it was told before."""
    with context.socket(zmq.PULL) as receiver, context.socket(zmq.PUSH) as sender:
        sender.setsockopt(zmq.LINGER, 0)
        sender.connect(f"tcp://127.0.0.1:{receiver.bind_to_random_port('tcp://127.0.0.1')}")
        sender.send(b"")
        receiver.poll(IO_THREAD_WITHIN_MS)


def _silent_s(connection: socket.socket, default_s: float) -> float:
    """Return for how long nothing has arrived; `default_s` where the system does not say so."""
    try:
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_RECEIVED_MS.size)
        return float(_LAST_RECEIVED_MS.unpack(information)[0]) / 1000
    except (OSError, AttributeError, struct.error):  # a local connection, or not Linux
        return default_s


def _refuse_senders(listener: socket.socket) -> None:
    """Let no sender connect any more, where the system can do so; they retry until a process listens again."""
    with contextlib.suppress(OSError, ValueError):  # not Linux, or a local address without a file
        if listener.family == socket.AF_UNIX:
            Path(os.fsdecode(listener.getsockname())).unlink()
        else:
            _drop_packets(listener)


def _drop_packets(each: socket.socket) -> None:
    code = ctypes.create_string_buffer(_DROP_ALL)
    each.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(code)))


def _accept_packets(each: socket.socket) -> None:
    each.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def connected(address: str, accepted: bool = True) -> bool:
    """Return whether any sender is connected, or will be in a moment."""
    return any(True for _ in connections(address, accepted)) or any(_acceptable(each) for each in _listeners(address))


def _acceptable(listener: socket.socket) -> bool:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def unread_bytes(connection: socket.socket) -> int:
    """Return how many bytes the kernel holds that ZeroMQ has not taken yet."""
    with contextlib.suppress(OSError):
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))[0])
    return 0


def _listeners(address: str) -> Iterator[socket.socket]:
    return (each for each in _sockets(address, socket.socket.getsockname) if _is_listening(each))


def connections(address: str, accepted: bool) -> Iterator[socket.socket]:
    """Yield the connections of a bound or, unless `accepted`, connected socket, each until the next is asked for."""
    name_of = socket.socket.getsockname if accepted else socket.socket.getpeername
    return (each for each in _sockets(address, name_of) if not _is_listening(each))


def _is_listening(each: socket.socket) -> bool:
    return bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _sockets(address: str, name_of: Callable[[socket.socket], object]) -> Iterator[socket.socket]:
    """Yield duplicates of the sockets whose name is a ZeroMQ address, each open until the next is asked for."""
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - numbers are wanted
        if (found := _duplicate(int(name))) is None:
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

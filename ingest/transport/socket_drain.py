"""Stop reading a ZeroMQ socket without losing what senders consider sent.

A sender considers a message sent once the kernel has it. The message is then in the kernel's buffers, on both sides and
between them, or in the socket's queue, and is lost when the socket is closed or unbound: libzmq 4.3 closes a listener's
connections with it. So the end takes three steps: let no new sender connect; shut down our half of each connection, so
that its sender closes the other half and keeps the rest for the next listener; read until all are gone.

A connection is shut down while its sender pauses, since a sender loses the message that it has written in part; one
that never pauses loses this message. It is shut down only once its queue cannot become full, because ZeroMQ drops what
is unread of a connection that is closed on both sides while its queue is full. Over TCP nobody knows how much is still
to arrive: packets can be lost, and arrive later and all at once. So the limit of the queues is lifted. The senders are
held up meanwhile, usually for some milliseconds, with nothing left to read: a connection that is full would not be
resumed, and one that is being closed would crash libzmq. This comes after the handshakes, because a queue that is made
later has the old limit; connections whose handshake takes too long are left out.

Senders at local addresses leave nothing on the way, and cannot be held up; their connections are shut down while the
queues are empty and fill slowly. One that sends faster than it is read all the time loses what its queue cannot hold.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from ingest.transport import kernel_socket
from ingest.transport.awake_clock import AwakeClock
from ingest.transport.kernel_socket import connections, listeners, unread_bytes

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 0.35  # a sender that has paused for this long, longer than TCP waits to repeat, is between messages
PAUSE_WITHIN_S = 0.5  # for a sender to pause, for shorter and shorter times; after twice this it is shut down anyway
SILENT_S = 3.5  # a sender that was shut down, has not closed and is silent for this long hangs; TCP repeats 4 times
IO_THREAD_WITHIN_MS = 1_000  # for it to carry out what it was told
CLOSE_WITHIN_S = 10.0  # and `SILENT_S`, for one that goes on sending; ZeroMQ's close at once
RECEIVE_COUNT = 1_000  # messages received in one turn
QUEUE_COUNT = 2**20  # messages in the queue of one sender: more than the kernel's buffers hold
REPEAT_WITHIN_S = 15.0  # for TCP to repeat what was dropped, at most
MOST_BYTES = 4 * 2**20  # received from a sender, once its queue has no limit, until it is shut down anyway
# The least that a sender sends before its messages (RFC 37, RFC 26), by mechanism.
HANDSHAKE_BYTES: dict[int, int] = {zmq.NULL: 91, zmq.CURVE: 551}
_TURN_S = 0.002


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
    """The senders of one socket while it is read for the last time. Times are of its `AwakeClock`."""

    def __init__(self, bound: zmq.Socket[Any], address: str, accepted: bool) -> None:
        self._bound = bound
        self._address = address
        self._accepted = accepted
        self._few = int(bound.getsockopt(zmq.RCVHWM)) // 8
        self._handshake_bytes = HANDSHAKE_BYTES.get(int(bound.getsockopt(zmq.MECHANISM)), 0) if accepted else 0
        self._silent_s = SILENT_S
        self._clock = AwakeClock()
        self._started = self._heard = self._clock.tick()
        self._can_hold = sys.platform == "linux" and address.startswith("tcp:")
        self._held: float | None = None  # since when the senders' packets are dropped
        self._held_bytes: dict[object, int] = {}  # received from each peer by then
        self._held_at = 0.0  # the same as `_held`, of `time.monotonic`, as TCP counts
        self._held_s = 0.0  # for how long they were
        self._repeating: set[object] = set()  # peers that repeat what was dropped
        self._resumed: dict[object, float] = {}  # since when each peer's packets arrive again
        # Bytes from peers whose handshake is not over; once the limit is lifted, these are left out.
        self._joining: dict[object, int] = {}
        self._received = self._started  # when messages were received last
        self._lifted: float | None = None  # since when the queues have no limit
        self._calm = False  # whether the queues are empty and fill slowly
        if accepted:
            for listener in listeners(address):
                kernel_socket.refuse_senders(listener)

    def end_senders(self) -> None:
        """Shut down the connections of senders that pause or have had their time, while no queue can become full."""
        self._connected = self._unread = False
        now = self._clock.tick()
        if self._lifted is None:
            self._joining.clear()
        for connection in self._connections():
            self._connected = True
            unread = unread_bytes(connection) > 0
            self._unread |= unread
            silent_s = kernel_socket.silent_s(connection, now - self._heard)
            self._heard = max(self._heard, now - silent_s)
            received = kernel_socket.received_bytes(connection) or 0
            peer = _peer(connection)
            if self._lifted is None and self._can_hold and received < self._handshake_bytes:
                self._joining[peer] = received
                continue
            if self._has_had_its_time(peer, received, now) or (not unread and self._pauses(peer, silent_s, now)):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)

    def _has_had_its_time(self, peer: object, received: int, now: float) -> bool:
        """Return whether a sender is to be shut down even in the middle of a message."""
        if self._lifted is None:
            return False
        arrived = received - self._held_bytes.get(peer, received)
        if arrived > 0:
            self._resumed.setdefault(peer, now)
        return arrived > MOST_BYTES or self._elapsed_s(peer, now) > 2 * PAUSE_WITHIN_S

    def _pauses(self, peer: object, silent_s: float, now: float) -> bool:
        """Return whether a sender that is silent for so long may be between messages, and its queue cannot get full."""
        if self._lifted is None and (self._can_hold or not self._calm):
            return False
        if peer in self._repeating and peer not in self._resumed:
            return False  # it cannot be heard
        return silent_s >= LONGEST_PAUSE_S * (1 - self._elapsed_s(peer, now) / PAUSE_WITHIN_S)

    def _elapsed_s(self, peer: object, now: float) -> float:
        """Return for how long a sender has had time to pause: if it was held up, since its packets arrive again.

        Each pause of TCP before it repeats is as long as all before it. After the first packet it can pause once more.
        """
        if self._lifted is None:
            return now - self._started
        if peer in self._resumed:
            return now - self._resumed[peer] - LONGEST_PAUSE_S
        if peer in self._repeating:
            return now - self._lifted - min(self._held_s, REPEAT_WITHIN_S) - PAUSE_WITHIN_S
        return now - self._lifted

    def ended(self, received: int) -> bool:
        """Return whether nothing is left to read, after `received` messages were."""
        now = self._clock.tick()
        if received:
            self._received = now
        if received or self._unread:
            self._heard = now
        elif not (self._connected or self._is_connecting()):
            return True
        elif now - self._heard > self._silent_s:
            log.warning("sender is silent and does not close, what it still sends is dropped address=%s", self._address)
            return True
        # Senders that are held up send nothing: what they have sent is read for as long as it arrives.
        ending_since = self._started if self._held is None else max(self._held, self._received)
        if self._lifted is not None:
            ending_since = self._lifted
        if self._connected and now - ending_since > CLOSE_WITHIN_S + self._silent_s:
            log.warning("sender does not stop sending, its last messages are dropped address=%s", self._address)
            return True
        if self._lifted is None:
            self._check_queues(received, now)
        return False

    def _is_connecting(self) -> bool:
        """Return whether a sender has connected meanwhile. One that ZeroMQ is just accepting shows up nowhere else."""
        if kernel_socket.acceptable(self._address):
            return True
        with contextlib.suppress(zmq.ZMQError):  # such as too many open files
            _pass_io_thread(self._bound.context)
        return any(True for _ in self._connections())

    def _connections(self) -> Iterator[socket.socket]:
        """Yield the connections that count, each until the next is asked for."""
        for connection in connections(self._address, self._accepted):
            if self._lifted is None or not self._joining or _peer(connection) not in self._joining:
                yield connection

    def _check_queues(self, received: int, now: float) -> None:
        """Hold the senders up, at the latest once they have had their time; then lift the limit of the queues."""
        empty = not self._unread and not self._bound.poll(0)
        self._calm = empty and received <= self._few
        late = now - self._started > PAUSE_WITHIN_S
        if not self._can_hold:
            if late and not self._calm:
                log.warning("senders do not pause, what their queues cannot hold is dropped address=%s", self._address)
                self._lifted = now
        elif self._held is None:
            if late or (self._calm and not self._joining and not kernel_socket.acceptable(self._address)):
                self._held, self._held_at = now, time.monotonic()
                self._hold()
        else:
            before = self._held_bytes
            if self._hold() and empty and self._held_bytes == before and self._lift_limit():
                self._lifted, self._held_s = self._clock.tick(), time.monotonic() - self._held_at
                self._silent_s += 2 * self._held_s  # TCP repeats what was dropped, at growing intervals

    def _hold(self) -> bool:
        """Drop the packets of all senders; return False, and drop none any more, if the system does not allow that."""
        self._held_bytes = {}
        try:
            for connection in self._connections():
                kernel_socket.drop_packets(connection)
                self._held_bytes[_peer(connection)] = kernel_socket.received_bytes(connection) or 0
        except OSError:
            self._give_up_holding()
        return self._can_hold

    def _give_up_holding(self) -> None:
        self._can_hold, self._held = False, None
        self._joining.clear()
        self._release()

    def _release(self) -> None:
        for connection in connections(self._address, self._accepted):
            if _peer(connection) not in self._joining:
                with contextlib.suppress(OSError):
                    kernel_socket.accept_packets(connection)
                if kernel_socket.dropped_packets(connection) != 0:
                    self._repeating.add(_peer(connection))

    def _lift_limit(self) -> bool:
        """Lift the limit of the queues and accept packets again; return False if not everything has been read."""
        try:
            for _ in range(2):  # ending a connection takes libzmq two; until then changing the limit crashes it
                if not _pass_io_thread(self._bound.context) or self._bound.poll(0):
                    return False
            self._bound.setsockopt(zmq.RCVHWM, QUEUE_COUNT)
        except zmq.ContextTerminated:
            raise
        except zmq.ZMQError:  # such as too many open files
            self._give_up_holding()
            return False
        if any(self._joining.values()):
            log.warning("sender is still connecting, what it has sent is dropped address=%s", self._address)
        self._release()
        return True


def _peer(connection: socket.socket) -> object:
    """Return the address of the other end; None if it is gone."""
    try:
        return connection.getpeername()
    except OSError:
        return None


def _pass_io_thread(context: zmq.Context[Any]) -> bool:
    """Return once the I/O thread of `context` has carried out what it was told before; False if it takes too long."""
    with context.socket(zmq.PULL) as receiver, context.socket(zmq.PUSH) as sender:
        sender.setsockopt(zmq.LINGER, 0)
        sender.connect(f"tcp://127.0.0.1:{receiver.bind_to_random_port('tcp://127.0.0.1')}")
        sender.send(b"")
        return bool(receiver.poll(IO_THREAD_WITHIN_MS))

"""The broker: ZeroMQ's forwarder between publishers (XSUB) and backends (XPUB), with counts of what passes.

Any number of both can come and go. A backend that does not read has its own queue; what does not fit is dropped for
this backend alone, which sees the gap in the sequence numbers. Messages are forwarded unread by libzmq's own proxy
(zmq_proxy_steerable(3)) in a separate thread, so that no Python runs per message.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any

import zmq

from ..exceptions import BindError, BrokerFailedError
from ..transport.address import allow_ipv6
from ..transport.hold_decision import MAY_BE_DROPPED
from ..transport.kernel_socket import limit_segments
from ..transport.memory_limit import MemoryLimit
from ..transport.socket_drain import read_all, receive_some
from .metric_type import COUNTER
from .own_metrics import options
from .wire import BACKENDS, PUBLISHERS
from .zibrato import Zibrato

log = logging.getLogger(__name__)

LARGEST_BYTES = 4 * 2**20  # above it ZeroMQ closes the connection; no backend reads more than `wire.MOST_BYTES`
SUBSCRIPTION_BYTES = 2**12
HIGH_WATER_COUNT = 100_000  # messages that wait for one backend, or from one publisher
COUNTS_EVERY_S = 1.0
LOG_EVERY_S = 60.0
LINGER_MS = 1_000  # at stop: for backends to receive what is left
ANSWER_MS = 5_000  # for the proxy to report its counts
_CONTROL = "inproc://control"


@dataclass(frozen=True, slots=True)
class ForwardedTotals:
    """Totals of what publishers have sent since the start."""

    messages: int = 0
    size_bytes: int = 0


class Broker:
    """Bind with `start`, forward with `run` until its `stop` is set, end with `close`; all in one thread.

    `totals` is at most one second old. With `measure_s`, the broker also publishes a metric of the messages that it
    forwards, at this interval.
    """

    def __init__(
        self, publishers: str, backends: str, *, measure_s: float = 0.0, high_water_count: int = HIGH_WATER_COUNT
    ) -> None:
        self._wanted = {PUBLISHERS: publishers, BACKENDS: backends}
        self._high_water_count = high_water_count
        self._measure_s = measure_s
        self._own: Zibrato | None = None
        self._reported = self._logged = 0
        self._log_at = 0.0
        self.totals = ForwardedTotals()
        self.addresses: dict[str, str] = {}

    def start(self) -> None:
        """Bind both sockets. Raise `BindError` with the address."""
        self._context: zmq.Context[Any] = zmq.Context()
        self._in = self._bound(zmq.XSUB, PUBLISHERS)
        self._out = self._bound(zmq.XPUB, BACKENDS)
        self._control = self._context.socket(zmq.PAIR)
        self._control.setsockopt(zmq.LINGER, 0)
        self._control.bind(_CONTROL)
        self._log_at = time.monotonic() + LOG_EVERY_S

    def _bound(self, kind: int, key: str) -> Any:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, self._high_water_count)
        socket.setsockopt(zmq.SNDHWM, self._high_water_count)
        socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_BYTES if kind == zmq.XSUB else SUBSCRIPTION_BYTES)
        allow_ipv6(socket, self._wanted[key])
        try:
            socket.bind(self._wanted[key])
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise BindError(
                f"{key} {self._wanted[key]} cannot be bound ({error}): stop what uses it, or set metrics.port"
            ) from None
        self.addresses[key] = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        limit_segments(self.addresses[key])
        return socket

    def run(self, stop: Any) -> None:
        """Forward until `stop.is_set()`, which is checked when the descriptor `stop.fileno()` is readable.

        What publishers have sent by then is forwarded too. Raise `BrokerFailedError` if forwarding has ended before.
        """
        proxy = threading.Thread(target=self._forward, name="broker-proxy", daemon=True)
        proxy.start()
        self._memory_limit = MemoryLimit(dict.fromkeys(self.addresses.values(), lambda: MAY_BE_DROPPED))
        self._memory_limit.start()
        if self._measure_s:
            own = options("broker", lambda: self.addresses[PUBLISHERS], self._measure_s)
            self._own = Zibrato(**own)
        poller = zmq.Poller()
        poller.register(stop.fileno(), zmq.POLLIN)
        pause_s = min(COUNTS_EVERY_S, self._measure_s or COUNTS_EVERY_S)
        try:
            while proxy.is_alive() and not stop.is_set():
                poller.poll(int(pause_s * 1000))
                self._update_totals()
        finally:
            self._memory_limit.stop()
            if self._own is not None:
                self._own.close()
            with contextlib.suppress(zmq.Again):  # the proxy has ended
                self._control.send(b"TERMINATE", zmq.NOBLOCK)
            proxy.join()
        if not stop.is_set():
            raise BrokerFailedError("the metrics broker forwards no more: its proxy has ended, see the log")

    def _forward(self) -> None:
        # Signals are for the main thread: here one would restart the proxy, and its counts at 0.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        commands = self._context.socket(zmq.PAIR)
        commands.setsockopt(zmq.LINGER, 0)
        commands.connect(_CONTROL)
        try:
            zmq.proxy_steerable(self._in, self._out, None, commands)
            read_all(self._in, self.addresses[PUBLISHERS], self._forward_some)
        finally:
            commands.close()
            self._in.close(0)  # only now, because publishers reconnect
            self._out.close(LINGER_MS)

    def _forward_some(self) -> int:
        messages = receive_some(self._in)
        for message in messages:
            self._out.send_multipart(message)
        return len(messages)

    def _update_totals(self) -> None:
        """Get the proxy's counts; log and publish them when they are due."""
        with contextlib.suppress(zmq.Again):  # the proxy has ended, which the caller sees
            self._control.send(b"STATISTICS", zmq.NOBLOCK)
        if not self._control.poll(ANSWER_MS):
            log.warning("proxy does not report its counts")
            return
        received, size, *_ = (struct.unpack("=Q", frame)[0] for frame in self._control.recv_multipart())
        self.totals = ForwardedTotals(received, size)
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_EVERY_S
            if received > self._logged:
                new = received - self._logged
                log.info("messages forwarded messages=%d total_messages=%d total_bytes=%d", new, received, size)
            self._logged = received
        self._measure()

    def _measure(self) -> None:
        """Count what passed since the last time, without the messages that report it."""
        if self._own is None:
            return
        own = self._own.statistics().sent
        passed = self.totals.messages - own
        if passed > self._reported:
            self._own.send(mtype=COUNTER, name="zarkov.broker.messages", value=passed - self._reported)
            self._reported = passed

    def close(self) -> None:
        """Close all sockets. Can be called twice."""
        if self.addresses:
            self._context.destroy(linger=0)
            self.addresses = {}

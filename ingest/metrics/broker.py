"""The broker: ZeroMQ's forwarder between publishers (XSUB) and backends (XPUB), with figures of what passes.

Many of either may come and go. A backend that does not read has its own queue, and what does not fit is dropped for
it alone; it sees the gap in the sequence numbers. Messages are forwarded as they are, whatever they hold: libzmq's own
proxy does it (zmq_proxy_steerable(3)) in a thread of its own, and no Python runs per message.
"""

from __future__ import annotations

import logging
import signal
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any

import zmq

from ..exceptions import BindError
from .naming import COUNTER
from .own import options
from .wire import BACKENDS, PUBLISHERS
from .zibrato import Zibrato

log = logging.getLogger(__name__)

HIGH_WATER_COUNT = 100_000  # messages that wait for one backend, or from one publisher
LOOK_EVERY_S = 1.0
SAY_EVERY_S = 60.0
ANSWER_MS = 5_000  # for the proxy's answer to a question
_CONTROL = "inproc://control"


@dataclass(frozen=True, slots=True)
class Figures:
    """What passed since the start, from publishers to backends."""

    messages: int = 0
    size_bytes: int = 0


class Broker:
    """`start` binds, `run` forwards until its `stop` is set, `close` ends. One thread calls all three.

    `figures` is what passed until the last look, one second ago at most. With `measure_s`, what passes is itself
    measured and published like anything else, at this interval.
    """

    def __init__(
        self, publishers: str, backends: str, *, measure_s: float = 0.0, high_water_count: int = HIGH_WATER_COUNT
    ) -> None:
        self._wanted = {PUBLISHERS: publishers, BACKENDS: backends}
        self._high_water_count = high_water_count
        self._measure_s = measure_s
        self._own: Zibrato | None = None
        self._reported = self._said = 0
        self._say_at = 0.0
        self.figures = Figures()
        self.addresses: dict[str, str] = {}

    def start(self) -> None:
        """Bind both sockets. Raises `BindError` that names the address."""
        self._context: zmq.Context[Any] = zmq.Context()
        self._in = self._bound(zmq.XSUB, PUBLISHERS)
        self._out = self._bound(zmq.XPUB, BACKENDS)
        self._control = self._context.socket(zmq.PAIR)
        self._control.setsockopt(zmq.LINGER, 0)
        self._control.bind(_CONTROL)
        self._say_at = time.monotonic() + SAY_EVERY_S

    def _bound(self, kind: int, key: str) -> Any:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, self._high_water_count)
        socket.setsockopt(zmq.SNDHWM, self._high_water_count)
        try:
            socket.bind(self._wanted[key])
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise BindError(
                f"{key} {self._wanted[key]} cannot be bound ({error}): stop what uses it, or set metrics.port"
            ) from None
        self.addresses[key] = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        return socket

    def run(self, stop: Any) -> None:
        """Forward until `stop.is_set()`, which is asked when the descriptor `stop.fileno()` is readable."""
        proxy = threading.Thread(target=self._forward, name="broker-proxy", daemon=True)
        proxy.start()
        if self._measure_s:
            own = options("broker", lambda: self.addresses[PUBLISHERS], self._measure_s)
            self._own = Zibrato(**own)
        poller = zmq.Poller()
        poller.register(stop.fileno(), zmq.POLLIN)
        pause_s = min(LOOK_EVERY_S, self._measure_s or LOOK_EVERY_S)
        try:
            while proxy.is_alive() and not stop.is_set():
                poller.poll(int(pause_s * 1000))
                self._look()
        finally:
            if self._own is not None:
                self._own.close(0)
            self._control.send(b"TERMINATE")
            proxy.join()

    def _forward(self) -> None:
        # A signal is for the main thread: here it would make the proxy begin anew, and its figures with it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        commands = self._context.socket(zmq.PAIR)
        commands.setsockopt(zmq.LINGER, 0)
        commands.connect(_CONTROL)
        try:
            zmq.proxy_steerable(self._in, self._out, None, commands)
        finally:
            commands.close()

    def _look(self) -> None:
        """Ask the proxy what passed; say and publish it when it is time."""
        self._control.send(b"STATISTICS")
        if not self._control.poll(ANSWER_MS):
            log.warning("the forwarder does not say what passed")
            return
        received, size, *_ = (struct.unpack("=Q", frame)[0] for frame in self._control.recv_multipart())
        self.figures = Figures(received, size)
        now = time.monotonic()
        if now >= self._say_at:
            self._say_at = now + SAY_EVERY_S
            if received > self._said:
                log.info("%d messages passed, %d (%d bytes) since the start", received - self._said, received, size)
            self._said = received
        self._measure()

    def _measure(self) -> None:
        """Count what passed since the last time, less what was said about it."""
        if self._own is None:
            return
        own = self._own.statistics().sent
        passed = self.figures.messages - own
        if passed > self._reported:
            self._own.send(mtype=COUNTER, name="zarkov.broker.messages", value=passed - self._reported)
            self._reported = passed

    def close(self) -> None:
        """Let go of all sockets. May be called twice."""
        if self.addresses:
            self._context.destroy(linger=0)
            self.addresses = {}

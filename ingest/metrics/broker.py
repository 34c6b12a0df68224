"""The broker: ZeroMQ's forwarder between publishers (XSUB) and backends (XPUB), with figures of what passes.

Many of either may come and go. A backend that does not read has its own queue, and what does not fit is dropped for
it alone; it sees the gap in the sequence numbers. Messages are forwarded as they are, whatever they hold.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import zmq

from ingest.exceptions import BindError
from ingest.metrics.naming import COUNTER, GAUGE, Identity
from ingest.metrics.wire import BACKENDS, PUBLISHERS, Batch, pack_batch

log = logging.getLogger(__name__)

HIGH_WATER_COUNT = 100_000  # messages that wait for one backend, or from one publisher
AT_ONCE = 1_000  # messages forwarded between two looks at anything else
SAY_EVERY_S = 60.0


@dataclass
class Figures:
    """What passed since the start."""

    messages: int = 0
    size_bytes: int = 0
    subscriptions: dict[bytes, bool] = field(default_factory=dict)  # what at least one backend wants


class Broker:
    """`start` binds, `run` forwards until `stop` is readable, `close` ends. One thread; `step` is one turn."""

    def __init__(
        self, publishers: str, backends: str, *, measure_s: float = 0.0, high_water_count: int = HIGH_WATER_COUNT
    ) -> None:
        self._wanted = {PUBLISHERS: publishers, BACKENDS: backends}
        self._high_water_count = high_water_count
        self._measure_s = measure_s  # pause between two reports among the measurements themselves; 0 = none
        self._publisher = secrets.token_hex(8)
        self._sequence = 0
        self._reported, self._said = 0, 0
        self._report_at = self._say_at = time.monotonic()
        self.figures = Figures()
        self.addresses: dict[str, str] = {}

    def start(self) -> None:
        """Bind both sockets. Raises `BindError` that names the address."""
        self._context = zmq.Context()
        self._in = self._bound(zmq.XSUB, PUBLISHERS)
        self._out = self._bound(zmq.XPUB, BACKENDS)
        self._poller = zmq.Poller()
        self._poller.register(self._in, zmq.POLLIN)
        self._poller.register(self._out, zmq.POLLIN)

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
        """Forward until the descriptor `stop.fileno()` is readable."""
        self._poller.register(stop.fileno(), zmq.POLLIN)
        while not stop.is_set():
            self.step(1.0)

    def step(self, timeout_s: float) -> None:
        """Wait for something to pass, at most `timeout_s`, and pass it."""
        ready = dict(self._poller.poll(int(timeout_s * 1000)))
        if self._out in ready:
            self._pass_subscriptions()
        if self._in in ready:
            self._pass_messages()
        now = time.monotonic()
        if now >= self._say_at:
            self._say(now)
        if self._measure_s and now >= self._report_at:
            self._report(now)

    def _pass_subscriptions(self) -> None:
        try:
            while True:
                said = self._out.recv(zmq.NOBLOCK)
                self._in.send(said, zmq.NOBLOCK)
                if said[:1] == b"\x01":
                    self.figures.subscriptions[said[1:]] = True
                elif said[:1] == b"\x00":
                    self.figures.subscriptions.pop(said[1:], None)
        except zmq.Again:
            pass

    def _pass_messages(self) -> None:
        receive, send = self._in.recv_multipart, self._out.send_multipart
        count = size = 0
        try:
            for _ in range(AT_ONCE):
                frames = receive(zmq.NOBLOCK)
                send(frames, zmq.NOBLOCK)
                count += 1
                size += len(frames[0])
        except zmq.Again:
            pass
        self.figures.messages += count
        self.figures.size_bytes += size

    def _say(self, now: float) -> None:
        self._say_at = now + SAY_EVERY_S
        passed = self.figures.messages - self._said
        if passed:
            self._said = self.figures.messages
            log.info(
                "%d messages passed, %d (%d bytes) since the start; %d subscriptions",
                passed, self.figures.messages, self.figures.size_bytes, len(self.figures.subscriptions),
            )  # fmt: skip

    def _report(self, now: float) -> None:
        """Tell backends what passed, in the manner of every publisher."""
        self._report_at = now + self._measure_s
        passed = self.figures.messages - self._reported
        if not passed:
            return
        self._reported = self.figures.messages
        self._put(Identity("info", COUNTER, "zarkov.broker.messages", "broker"), passed, {})
        wanted = len(self.figures.subscriptions)
        self._put(
            Identity("info", GAUGE, "zarkov.broker.subscriptions", "broker"),
            wanted, {"min": wanted, "max": wanted, "last": wanted, "sketch": {}},
        )  # fmt: skip

    def _put(self, who: Identity, total: int, more: dict[str, Any]) -> None:
        self._sequence += 1
        batch = Batch(
            who, int(time.time()), 1, total, self._publisher, self._sequence, before=self._sequence - 1, **more
        )
        self._out.send(pack_batch(batch), zmq.NOBLOCK)

    def close(self) -> None:
        """Let go of both sockets. May be called twice."""
        if self.addresses:
            self._in.close()
            self._out.close()
            self._context.term()
            self.addresses = {}

"""The base class of backends: receive from the broker, gather, and deliver every `flush_s` without losing anything.

A backend defines how gathered measurements become payloads (`pack`) and how payloads are sent (`deliver`). Payloads
leave the queue only once `deliver` reports them as accepted; until then they are retried, with pauses that double. If
too many wait, nothing more is received: ZeroMQ's queues fill, and the broker drops messages for this backend alone. A
payload that makes `deliver` fail by itself is refused, counted and logged; the others are still delivered.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import zmq

from ingest.metrics.backend.delivery_count import DeliveryCount
from ingest.metrics.backend.rollup import Rollup
from ingest.metrics.exceptions import BackendError, PostponedError
from ingest.metrics.wire import Batch, Measurement, topic, unpack
from ingest.transport.address import allow_ipv6
from ingest.transport.socket_drain import read_all, receive_some

log = logging.getLogger(__name__)

HIGH_WATER_COUNT = 100_000
MOST_METRICS = 20_000  # gathered metrics, or items kept one by one, that cause an early flush
MOST_PAYLOADS = 100_000  # waiting payloads at which receiving stops
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
STOP_WITHIN_S = 2.0  # at stop, for the last delivery
ADDRESS_CHECK_S = 1.0  # between two checks of the broker's address


@dataclass(frozen=True)
class BackendOptions:
    address: str | Callable[[], str]  # of the broker's socket for backends; called every `ADDRESS_CHECK_S`
    levels: tuple[str, ...] = ()  # exactly these; () = all
    flush_s: float = 60.0
    own: dict[str, Any] = field(default_factory=dict)  # options of this backend, as `add_arguments` names them


class Backend(ABC):
    """Base class of all backends. Runs in one thread; `step` is one turn of `run`."""

    name: ClassVar[str] = ""
    help: ClassVar[str] = ""
    payloads_at_once: ClassVar[int] = 500
    span_s: ClassVar[int] = 0  # length of the spans whose measurements are kept apart; 0 = from flush to flush

    def __init__(self, options: BackendOptions) -> None:
        if not 0 < options.flush_s < math.inf:
            raise BackendError(f"flush: {options.flush_s!r} must be a number of seconds above 0")
        self.options = options
        self.delivery_count = DeliveryCount()
        self.gathered = Rollup(self.span_s)
        self.payloads: list[Any] = []
        self.delivered = 0
        self.refused = 0  # payloads that the target system will never accept
        self.unreadable = 0  # messages that are not valid measurements
        self._retry_s = 0.0
        self._socket: Any = None
        self.address = ""  # of the broker; "" until it is known
        self._logged: tuple[int, ...] = ()
        self._flush_at = self._try_at = self._check_at = time.monotonic()

    # For subclasses

    @classmethod  # noqa: B027 - most have none
    def add_arguments(cls, parser: argparse._ArgumentGroup) -> None:
        """Add the options of this backend; their values arrive in `self.options.own`."""

    def connect(self) -> None:  # noqa: B027 - most need nothing
        """Prepare for delivery. The target need not be reachable: `deliver` is retried. Can raise `BackendError`."""

    def gather(self, item: Measurement | Batch) -> None:
        """Gather one item. The default merges the items of each metric."""
        self.gathered.add(item)

    def unpacked_count(self) -> int:
        """Return how many items wait for `pack`; too many cause an early flush. Override it along with `gather`."""
        return len(self.gathered)

    @abstractmethod
    def pack(self) -> list[Any]:
        """Return everything gathered since the last call, as payloads in the order of delivery."""

    @abstractmethod
    def deliver(self, payloads: Sequence[Any]) -> int:
        """Send payloads, starting with the first. Return how many were accepted or refused for good: from 1 to all.

        Raise `PostponedError` if none was: all are sent again later. Can block for a few seconds.
        """

    def end(self) -> None:  # noqa: B027 - most hold nothing
        """Release what `connect` and `deliver` opened."""

    def start(self) -> None:
        """Prepare for delivery, and subscribe."""
        self.connect()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        for prefix in [topic(level) for level in self.options.levels] or [b""]:
            self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
        self._follow_broker()
        self._flush_at = time.monotonic() + self.options.flush_s

    def _follow_broker(self) -> None:
        """Connect to the broker, again if it was restarted at another address."""
        self._check_at = time.monotonic() + ADDRESS_CHECK_S
        wanted = self.options.address
        try:
            address = wanted if isinstance(wanted, str) else wanted()
        except Exception as error:  # noqa: BLE001 - retried: the broker may not have published its address yet
            if not self.address:
                log.info("address of the broker not known yet error=%s", error)
            return
        if address != self.address:
            try:
                allow_ipv6(self._socket, address)
                self._socket.connect(address)
            except zmq.ZMQError as error:
                log.warning("address of the broker cannot be used, will try again address=%s error=%s", address, error)
                return
            if self.address:
                log.info("broker moved address=%s", address)
                with contextlib.suppress(zmq.ZMQError):
                    self._socket.disconnect(self.address)
            self.address = address

    def run(self, stop: Any) -> None:
        """Work until `stop` is set, whose `fileno()` wakes it, then `stop`."""
        if self._socket is None:
            self.start()
        while not stop.is_set():
            self.step(1.0, stop.fileno())
        self.stop()

    def step(self, timeout_s: float, wake: int | None = None) -> None:
        """Wait at most `timeout_s` for messages or the next flush or retry; then receive, and deliver what is due."""
        if time.monotonic() >= self._check_at:
            self._follow_broker()
        full = len(self.payloads) >= MOST_PAYLOADS
        due = min(self._flush_at, self._try_at if self.payloads else self._flush_at) - time.monotonic()
        poller = zmq.Poller()
        if wake is not None:
            poller.register(wake, zmq.POLLIN)
        if not full:
            poller.register(self._socket, zmq.POLLIN)
        poller.poll(int(max(0.0, min(timeout_s, due)) * 1000) + (due > 0))
        if not full:
            self._receive()
        now = time.monotonic()
        if now >= self._flush_at or self.unpacked_count() >= MOST_METRICS:
            self.flush()
        elif self.payloads and now >= self._try_at:
            self._deliver()

    def _receive(self) -> int:
        messages = receive_some(self._socket)
        for frames in messages:
            self.handle_message(frames[-1])
        return len(messages)

    def parse(self, message: bytes | str) -> Measurement | Batch:
        """Return the measurement in a message. Raise `WireError`."""
        return unpack(message)

    def handle_message(self, message: bytes | str) -> None:
        """Gather one message. Count it if it is not valid; ignore it if its level is not selected."""
        try:
            item = self.parse(message)
        except Exception as error:  # noqa: BLE001 - a `WireError`, or a fault of ours: no message ends the backend
            self._unreadable(error)
            return
        level = item.identity.level if isinstance(item, Batch) else item.level
        if self.options.levels and level not in self.options.levels:
            return
        if isinstance(item, Batch):
            batches, measurements = self.delivery_count.add(item)
            if batches:
                log.warning("batches of a publisher did not arrive batches=%d measurements=%d", batches, measurements)
        try:
            self.gather(item)
        except Exception as error:  # noqa: BLE001 - an item that this backend cannot gather does not end it
            self._unreadable(error)

    def _unreadable(self, error: Exception) -> None:
        self.unreadable += 1
        if self.unreadable == 1:
            log.warning("message is not a measurement, more will only be counted error=%r", error)

    def flush(self) -> bool:
        """Pack what was gathered, and deliver. Return True if nothing is left."""
        self._flush_at = time.monotonic() + self.options.flush_s
        try:
            self.payloads += self.pack()
        except Exception:
            log.exception("gathered measurements cannot be packed and are dropped")
        if time.monotonic() >= self._try_at:
            self._deliver()
        self._log_totals()
        return not self.payloads

    def _deliver(self) -> None:
        try:
            while self.payloads:
                accepted = self._deliver_some()
                del self.payloads[:accepted]
                self.delivered += accepted
                self._retry_s = 0.0
        except PostponedError as error:
            if not self._retry_s:
                log.warning("delivery postponed payloads=%d error=%s", len(self.payloads), error)
            self._retry_s = min(max(self._retry_s * 2, FIRST_RETRY_S), LONGEST_RETRY_S)
            self._try_at = time.monotonic() + self._retry_s

    def _deliver_some(self) -> int:
        """Deliver some payloads. If they make `deliver` fail, deliver the first alone, or refuse it if it fails too."""
        try:
            return self.deliver(self.payloads[: self.payloads_at_once])
        except PostponedError:
            raise
        except Exception as error:  # noqa: BLE001 - the payload at fault is found below
            fault = error
        try:
            return self.deliver(self.payloads[:1]) if len(self.payloads) > 1 else self._refuse(fault)
        except PostponedError:
            raise
        except Exception as error:  # noqa: BLE001 - this payload is at fault
            return self._refuse(error)

    def _refuse(self, error: Exception) -> int:
        self.refused += 1
        log.error("payload cannot be delivered and is refused error=%r payload=%.300r", error, self.payloads[0])
        return 1

    def _log_totals(self) -> None:
        now = (self.delivery_count.lost_batches, self.refused, self.unreadable)
        if now != self._logged:
            self._logged = now
            log.info(
                "totals batches=%d lost_batches=%d lost_measurements=%d delivered=%d refused=%d unreadable=%d",
                self.delivery_count.batches, self.delivery_count.lost_batches, self.delivery_count.lost_measurements,
                self.delivered, self.refused, self.unreadable,
            )  # fmt: skip

    def stop(self) -> None:
        """Receive what the broker has sent, deliver for at most `STOP_WITHIN_S`, then close. Can be called twice."""
        if self._socket is None:
            return
        read_all(self._socket, self.address, self._receive, accepted=False)
        self._socket.close()
        deadline = time.monotonic() + STOP_WITHIN_S
        self._try_at = 0.0
        while not self.flush() and time.monotonic() < deadline:
            time.sleep(0.1)
            self._try_at = 0.0
        if self.payloads:
            log.error("payloads dropped, the target did not accept them before the end payloads=%d", len(self.payloads))
        self._context.term()
        self._socket = None
        self.end()

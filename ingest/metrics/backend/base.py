"""What all backends share: receive from the broker, gather, and deliver every `flush_s` without losing anything.

A backend says how gathered measurements become parcels (`pack`) and how some parcels are handed over (`deliver`).
Parcels leave the queue only when `deliver` says they were accepted; until then they are tried again, with pauses that
double. When too many wait, nothing more is received: ZeroMQ's queues fill, and the broker drops for this backend alone.
A parcel on which `deliver` fails by itself is refused, counted and logged; the others go on.
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

from ingest.metrics.backend.rollup import Rollup
from ingest.metrics.backend.tally import Tally
from ingest.metrics.exceptions import BackendError, PostponedError, WireError
from ingest.metrics.wire import Batch, Single, topic, unpack

HIGH_WATER_COUNT = 100_000
AT_ONCE = 2_000  # messages received in one turn
MOST_METRICS = 20_000  # metrics, or items kept one by one, before a flush comes early
MOST_PARCELS = 100_000  # that wait for the other side
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 60.0
END_S = 2.0  # for the last delivery
ASK_S = 1.0  # between two looks where the broker is


@dataclass(frozen=True)
class BackendOptions:
    """What every backend can be told."""

    address: str | Callable[[], str]  # of the broker's socket for backends; a function is asked again all the time
    levels: tuple[str, ...] = ()  # exactly these; none = all
    flush_s: float = 60.0
    own: dict[str, Any] = field(default_factory=dict)  # options of this backend, as `add_arguments` names them


class Backend(ABC):
    """Base of all backends. One thread; `step` is one turn of `run`."""

    name: ClassVar[str] = ""
    help: ClassVar[str] = ""
    parcels_at_once: ClassVar[int] = 500
    span_s: ClassVar[int] = 0  # measurements of different spans of so many seconds stay apart; 0 = flush to flush

    def __init__(self, options: BackendOptions) -> None:
        if not 0 < options.flush_s < math.inf:
            raise BackendError(f"flush: {options.flush_s!r} is not allowed: a number of seconds above 0")
        self.options = options
        self.tally = Tally()
        self.gathered = Rollup(self.span_s)
        self.parcels: list[Any] = []
        self.delivered = 0
        self.refused = 0  # parcels that the other side will never take
        self.unreadable = 0  # messages that are none of ours
        self._retry_s = 0.0
        self._socket: Any = None
        self.address = ""  # of the broker, as far as it is known
        self._said: tuple[int, ...] = ()
        self._flush_at = self._try_at = self._ask_at = time.monotonic()

    # For subclasses

    @classmethod  # noqa: B027 - most have none
    def add_arguments(cls, parser: argparse._ArgumentGroup) -> None:
        """Options of this backend; their values are `self.options.own`."""

    def connect(self) -> None:  # noqa: B027 - most need nothing
        """Prepare for the other side. It need not be there: `deliver` is tried again. May raise `BackendError`."""

    def take(self, item: Single | Batch) -> None:
        """Gather one item; the usual way brings all of a metric together."""
        self.gathered.add(item)

    def held(self) -> int:
        """How much waits to be packed; beyond a bound a flush comes early. To be extended by who keeps more."""
        return len(self.gathered)

    @abstractmethod
    def pack(self) -> list[Any]:
        """Everything gathered since the last call, as parcels in the order of delivery."""

    @abstractmethod
    def deliver(self, parcels: Sequence[Any]) -> int:
        """Hand over parcels from the first on; return how many were accepted or refused for good.

        Raises `PostponedError` when none was, and may return fewer than all. Blocks for seconds at most.
        """

    def end(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of the other side."""

    # The loop

    def start(self) -> None:
        """Subscribe, and prepare for the other side."""
        self.connect()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        for prefix in [topic(level) for level in self.options.levels] or [b""]:
            self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
        self._ask()
        self._flush_at = time.monotonic() + self.options.flush_s

    def _ask(self) -> None:
        """Connect where the broker is, or anew when it has started again elsewhere."""
        self._ask_at = time.monotonic() + ASK_S
        wanted = self.options.address
        try:
            address = wanted if isinstance(wanted, str) else wanted()
        except Exception as error:  # noqa: BLE001 - asked again: the broker may not have said yet where it is
            if not self.address:
                log.info("it is not known yet where the broker is: %s", error)
            return
        if address != self.address:
            self._socket.connect(address)
            if self.address:
                log.info("the broker is now at %s", address)
                with contextlib.suppress(zmq.ZMQError):
                    self._socket.disconnect(self.address)
            self.address = address

    def run(self, stop: Any) -> None:
        """Work until `stop`, whose `fileno()` wakes it; then deliver what is left, for at most two seconds."""
        if self._socket is None:
            self.start()
        while not stop.is_set():
            self.step(1.0, stop.fileno())
        self.stop()

    def step(self, timeout_s: float, wake: int | None = None) -> None:
        """Wait for messages or the time of the next flush, at most `timeout_s`; take in, deliver what is due."""
        if time.monotonic() >= self._ask_at:
            self._ask()
        full = len(self.parcels) >= MOST_PARCELS
        due = min(self._flush_at, self._try_at if self.parcels else self._flush_at) - time.monotonic()
        poller = zmq.Poller()
        if wake is not None:
            poller.register(wake, zmq.POLLIN)
        if not full:
            poller.register(self._socket, zmq.POLLIN)
        poller.poll(int(max(0.0, min(timeout_s, due)) * 1000) + (due > 0))
        if not full:
            self._receive()
        now = time.monotonic()
        if now >= self._flush_at or self.held() >= MOST_METRICS:
            self.flush()
        elif self.parcels and now >= self._try_at:
            self._deliver()

    def _receive(self) -> None:
        for _ in range(AT_ONCE):
            try:
                message = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.post(message)

    def parse(self, message: bytes | str) -> Single | Batch:
        """What a message says. Raises `WireError`."""
        return unpack(message)

    def post(self, message: bytes | str) -> None:
        """Take in one message; what is none of ours is counted, what is of another level is not taken."""
        try:
            item = self.parse(message)
        except WireError as error:
            self._unreadable(error)
            return
        level = item.identity.level if isinstance(item, Batch) else item.level
        if self.options.levels and level not in self.options.levels:
            return
        if isinstance(item, Batch):
            batches, measurements = self.tally.note(item)
            if batches:
                log.warning("%d batches (%d measurements) of one publisher did not arrive", batches, measurements)
        try:
            self.take(item)
        except Exception as error:  # noqa: BLE001 - one item that this backend cannot take does not end it
            self._unreadable(error)

    def _unreadable(self, error: Exception) -> None:
        self.unreadable += 1
        if self.unreadable == 1:
            log.warning("a message is no measurement: %r", error)

    def flush(self) -> bool:
        """Make parcels of what was gathered and deliver; return whether nothing is left."""
        self._flush_at = time.monotonic() + self.options.flush_s
        try:
            self.parcels += self.pack()
        except Exception:
            log.exception("what was gathered cannot be packed and is lost")
        if time.monotonic() >= self._try_at:
            self._deliver()
        self._say()
        return not self.parcels

    def _deliver(self) -> None:
        try:
            while self.parcels:
                accepted = self._hand_over()
                del self.parcels[:accepted]
                self.delivered += accepted
                self._retry_s = 0.0
        except PostponedError as error:
            if not self._retry_s:
                log.warning("%d parcels wait: %s", len(self.parcels), error)
            self._retry_s = min(max(self._retry_s * 2, RETRY_FIRST_S), RETRY_MOST_S)
            self._try_at = time.monotonic() + self._retry_s

    def _hand_over(self) -> int:
        """Deliver some parcels; if that fails for another reason than the other side, the first alone, or refuse it."""
        try:
            return self.deliver(self.parcels[: self.parcels_at_once])
        except PostponedError:
            raise
        except Exception as error:  # noqa: BLE001 - found below in which parcel it lies
            fault = error
        try:
            return self.deliver(self.parcels[:1]) if len(self.parcels) > 1 else self._refuse(fault)
        except PostponedError:
            raise
        except Exception as error:  # noqa: BLE001 - this one it is
            return self._refuse(error)

    def _refuse(self, error: Exception) -> int:
        self.refused += 1
        log.error("a parcel cannot be delivered and is refused: %r: %.300r", error, self.parcels[0])
        return 1

    def _say(self) -> None:
        now = (self.tally.lost_batches, self.refused, self.unreadable)
        if now != self._said:
            self._said = now
            log.info(
                "%d batches in, %d lost (%d measurements); %d parcels delivered, %d refused; %d messages unreadable",
                self.tally.batches, self.tally.lost_batches, self.tally.lost_measurements,
                self.delivered, self.refused, self.unreadable,
            )  # fmt: skip

    def stop(self) -> None:
        """Take in what has arrived, deliver once more, let go. May be called twice."""
        if self._socket is None:
            return
        self._receive()
        deadline = time.monotonic() + END_S
        self._try_at = 0.0
        while not self.flush() and time.monotonic() < deadline:
            time.sleep(0.1)
            self._try_at = 0.0
        if self.parcels:
            log.error("%d parcels were not accepted by the other side and are lost", len(self.parcels))
        self._socket.close()
        self._context.term()
        self._socket = None
        self.end()


log = logging.getLogger(__name__)

"""The sender: a thread that empties the accumulators every interval and sends the batches to the broker.

Intervals start at whole multiples of their length on the clock, so that none spans two minutes. Measured code calls
only `add`, `submit` and `refuse`, which neither block nor raise, even in a signal handler or destructor that interrupts
one of them. Failures in the sender's thread are counted and logged; the thread keeps running.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from . import lifetime, native_thread
from .accumulate import Accumulator, CallCounter, ValueSummary
from .broker_connection import BrokerConnection
from .identity import Identity
from .metric_type import COUNTER
from .outbox import Outbox
from .wire import Batch, pack_batch, topic

MOST_METRICS = 100_000
MOST_UNBATCHED = 100_000  # messages of one measurement that wait for the sender
SEND_AT = 500  # waiting messages at which sending starts while accumulators are still being emptied
RETRY_S = 0.1  # between two attempts to send what could not be sent
LOST = Identity("warn", COUNTER, "zibrato.dropped", "zibrato")  # measurements that this process could not send
ADDRESS_CHECK_S = 1.0  # longest wait between two checks of the address
END_MARGIN_S = 0.5  # for the thread to end, beyond its time for sending
MOST_FAULTS_LOGGED = 20
log = logging.getLogger("zibrato")


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of this process's measurements by outcome, so far."""

    sent: int  # messages passed to ZeroMQ
    waiting: int  # messages that no subscriber has wanted yet
    dropped_messages: int
    dropped_measurements: int
    refused: int  # measurements that were not numbers, of one metric too many, or made after the end


class Publisher:
    """Own the accumulators, the sender's thread and its socket. Methods can be called from any thread."""

    def __init__(
        self, address: Callable[[], str], interval_s: float, exit_s: float, loss_level: int = logging.WARNING
    ) -> None:
        self._loss_level = loss_level
        self._address = address
        self._interval_s = interval_s
        self._exit_s = exit_s
        self._accumulators: list[Accumulator] = []
        self._closed = False
        self._reset()
        lifetime.register(self)

    def _reset(self) -> None:
        self._guard = native_thread.make_reentrant_lock()
        self._counting = native_thread.make_lock()  # only acquired without blocking
        self._pid = os.getpid()
        self._running = False
        self._ended = native_thread.make_lock()
        self._wake_read, self._wake_write = -1, -1
        self._woken = False
        self._unbatched: deque[tuple[bytes, bytes]] = deque()
        self._requests: deque[_FlushRequest] = deque()
        self._outbox = Outbox()
        self._sent = 0
        self._refusals = CallCounter(LOST, 1)
        self._refused = 0
        self._lost = 0  # measurements that could not be packed, or were made after the end
        self._stuck = False  # True while wanted messages cannot be sent
        self._incomplete = False  # True if messages were dropped at the end
        self._logged: set[str] = set()
        self._reported = 0
        self._publisher = secrets.token_hex(8)
        self._sequences: dict[str, tuple[int, int]] = {}  # by level: batches and measurements so far
        self._last_slot = int(time.time() // self._slot_s)

    @property
    def _slot_s(self) -> float:
        return self._interval_s or 1.0

    def add(self, accumulator: Accumulator) -> bool:
        """Collect from this accumulator from now on. Return False if there are too many."""
        with self._guard:
            if len(self._accumulators) >= MOST_METRICS:
                return False
            self._accumulators.append(accumulator)
        self.start()
        return True

    def submit(self, topic_: bytes, message: bytes) -> None:
        """Send one message as soon as possible, without blocking. Refuse it after the end or if too many wait."""
        if self._closed or len(self._unbatched) >= MOST_UNBATCHED:
            self.refuse()
            return
        self._unbatched.append((topic_, message))
        if not self._running:
            self.start()
        elif not self._woken:
            self._wake()

    def refuse(self) -> None:
        """Count a measurement that cannot be accepted; it is reported with the next interval."""
        self._refusals.tick()

    def start(self) -> None:
        """Start the sender unless it runs or is closed. If the system has no thread left, later calls retry."""
        if self._running or self._closed:
            return
        with self._guard:
            if self._running or self._closed:
                return
            self._running = True  # set first: a signal handler can call this again at any line
            try:
                self._wake_read, self._wake_write = os.pipe()
                os.set_blocking(self._wake_write, False)
                os.set_blocking(self._wake_read, False)
                self._ended.acquire(False)
                native_thread.start_thread(self._run)
            except (OSError, RuntimeError) as error:
                self._mark_stopped()
                self._log_fault("the sender cannot start yet", error)
        lifetime.end_with_child()

    def _mark_stopped(self) -> None:
        """Record that the thread does not run, and close the pipe that wakes it."""
        self._running = False
        for descriptor in (self._wake_read, self._wake_write):
            if descriptor >= 0:
                os.close(descriptor)
        self._wake_read = self._wake_write = -1

    def _wake(self) -> None:
        self._woken = True
        with contextlib.suppress(OSError):  # a full pipe means it is awake; or it was closed meanwhile
            os.write(self._wake_write, b"x")

    def flush(self, timeout_s: float) -> bool:
        """Return True once everything measured before this call was sent to its subscribers, False after `timeout_s`.

        Messages that no subscriber wants, such as those of a level that no backend subscribes to, keep waiting. Without
        any subscriber, all messages do.
        """
        if self._accumulators:
            self.start()
        if not self._running:
            return not self._unbatched and not self._outbox.waiting and not self._incomplete
        request = self._request_flush(timeout_s)
        return native_thread.acquire_within(request.done, timeout_s) and request.complete

    def _request_flush(self, timeout_s: float, *, last: bool = False) -> _FlushRequest:
        request = _FlushRequest(native_thread.make_lock(), time.monotonic() + timeout_s, last=last)
        request.done.acquire()
        self._requests.append(request)
        self._wake()
        return request

    def close(self, timeout_s: float | None = None) -> None:
        """Send what was measured, for at most `timeout_s` (None = `exit_s`), and end. Can be called twice."""
        if (pending := self.begin_close(timeout_s)) is not None:
            self.await_close(pending)
            lifetime.unregister(self)

    def begin_close(self, timeout_s: float | None = None) -> _FlushRequest | None:
        """Start to close, without blocking. Return the argument of `await_close`, or None if nothing runs."""
        with self._guard:
            closed, self._closed = self._closed, True
        if closed or not self._running:
            return None
        return self._request_flush(self._exit_s if timeout_s is None else timeout_s, last=True)

    def await_close(self, pending: _FlushRequest) -> None:
        for lock in (pending.done, self._ended):
            native_thread.acquire_within(lock, max(0.0, pending.deadline - time.monotonic()) + END_MARGIN_S)

    def statistics(self) -> Statistics:
        box = self._outbox
        if self._counting.acquire(False):  # a call that interrupts another, or runs beside it, sees the last counts
            try:
                self._refused += self._refusals.count_new()
                if self._closed and not self._running:
                    self._lost += sum(found.count for each in list(self._accumulators) if (found := each.collect()))
            finally:
                self._counting.release()
        waiting = box.waiting + len(self._unbatched)
        return Statistics(
            self._sent, waiting, box.dropped_messages, box.dropped_measurements + self._lost, self._refused
        )

    def _log_fault(self, what: str, error: Exception) -> None:
        fault = f"{what}: {type(error).__name__} {error}"
        if fault not in self._logged and len(self._logged) < MOST_FAULTS_LOGGED:
            self._logged.add(fault)
            log.error("measuring continues after an error error=%s", fault)

    def reset_after_fork(self) -> None:
        """Discard what the parent will send, get a new id, and run if the parent ran. For child processes."""
        ran = self._running
        self._mark_stopped()
        self._reset()
        for accumulator in self._accumulators:
            accumulator.reset_after_fork()
        if ran and not self._closed:
            self.start()

    # In the sender's thread

    def _run(self) -> None:
        connection = BrokerConnection(self._address)
        linger_s = 0.0
        try:
            request = None
            while request is None:
                request = self._safe_turn(connection)
            linger_s = max(0.0, request.deadline - time.monotonic())
            self._drop_waiting(request)
        finally:
            connection.close(int(linger_s * 1000))
            with self._guard:
                self._mark_stopped()
            self._ended.release()
            if linger_s or self._closed:
                while self._requests:
                    self._requests.popleft().done.release()

    def _drop_waiting(self, request: _FlushRequest) -> None:
        """Count what waits at the end as lost, and log it if a subscriber might have wanted it."""
        self._queue_unbatched()
        lost = self._outbox.drop_all()
        self._incomplete = lost > 0
        if lost and not request.complete:
            log.log(self._loss_level, "measurements dropped at exit, no subscriber received them measurements=%d", lost)

    def _safe_turn(self, connection: BrokerConnection) -> _FlushRequest | None:
        """Do one turn. If it fails, the thread keeps running."""
        try:
            return self._turn(connection)
        except Exception as error:  # noqa: BLE001 - the loop's edge
            self._log_fault("the sender failed once", error)
        native_thread.pause(RETRY_S)
        return self._answer(list(self._requests), sent_all=False)

    def _turn(self, connection: BrokerConnection) -> _FlushRequest | None:
        """Wait, collect if due or requested, send. Return the request that ends the thread once it is answered."""
        if not connection.subscribed:
            connection.connect()
        self._wait(connection)
        connection.read_subscriptions()
        pending = list(self._requests)
        slot = int(time.time() // self._slot_s)
        if slot != self._last_slot or any(not request.collected for request in pending):
            self._collect(min(self._last_slot, slot), connection)
            self._last_slot = slot
        for request in pending:
            request.collected = True
        self._queue_unbatched()
        self._stuck = not self._send_waiting(connection)
        return self._answer(pending, sent_all=connection.subscribed and not self._stuck)

    def _wait(self, connection: BrokerConnection) -> None:
        wait_s = (self._last_slot + 1) * self._slot_s - time.time()
        if not connection.subscribed:
            wait_s = min(wait_s, ADDRESS_CHECK_S)
        if self._stuck or self._requests:
            wait_s = min(wait_s, RETRY_S)
        if self._unbatched or any(not request.collected for request in self._requests):
            wait_s = 0.0
        poller = zmq.Poller()
        poller.register(self._wake_read, zmq.POLLIN)
        if connection.socket is not None:
            poller.register(connection.socket, zmq.POLLIN)
        poller.poll(max(0, int(wait_s * 1000) + 1) if wait_s > 0 else 0)
        self._woken = False
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _collect(self, slot: int, connection: BrokerConnection) -> None:
        epoch = int(slot * self._slot_s)
        for accumulator in list(self._accumulators):
            if (summary := self._collect_one(accumulator)) is not None:
                self.put(accumulator.identity, epoch, summary)
                if self._outbox.waiting >= SEND_AT:
                    self._send_waiting(connection)
        seen = self.statistics()
        if (lost := seen.dropped_measurements + seen.refused) > self._reported:
            self.put(LOST, epoch, ValueSummary(1, lost - self._reported))
            self._reported = lost

    def _collect_one(self, accumulator: Accumulator) -> ValueSummary | None:
        try:
            return accumulator.collect()
        except Exception as error:  # noqa: BLE001 - one bad metric does not cost the others
            self._log_fault(f"{accumulator.identity.name!r} cannot be summed", error)
            return None

    def put(self, metric: Identity, epoch: int, summary: ValueSummary) -> None:
        """Queue a batch under the next number of its level, or count it as lost if it cannot be packed.

        Only for the sender's thread.
        """
        batches, before = self._sequences.get(metric.level, (0, 0))
        self._sequences[metric.level] = (batches + 1, before + summary.count)
        batch = Batch(
            metric, epoch, summary.count, summary.sum, self._publisher, batches + 1, before,
            summary.min, summary.max, summary.last, summary.sketch,
        )  # fmt: skip
        try:
            message = pack_batch(batch)
        except Exception as error:  # noqa: BLE001 - one bad metric does not cost the others
            self._lost += summary.count
            self._log_fault(f"{metric.name!r} cannot be sent", error)
        else:
            self._outbox.put(topic(metric.level), message, summary.count)

    def _queue_unbatched(self) -> None:
        for _ in range(len(self._unbatched)):
            topic_, message = self._unbatched.popleft()
            self._outbox.put(topic_, message, 1)

    def _send_waiting(self, connection: BrokerConnection) -> bool:
        return self._outbox.send(connection.wants, lambda message: self._send(connection, message))

    def _send(self, connection: BrokerConnection, message: bytes) -> bool:
        sent = connection.send(message)
        self._sent += sent
        return sent

    def _answer(self, pending: list[_FlushRequest], *, sent_all: bool) -> _FlushRequest | None:
        now = time.monotonic()
        for request in pending:
            request.complete = sent_all or not self._outbox.waiting
            if request.complete or now >= request.deadline:
                self._requests.remove(request)
                request.done.release()
                if request.last:
                    return request
        return None


@dataclass(slots=True, eq=False)
class _FlushRequest:
    """A request to send what was measured so far, and its outcome."""

    done: Any  # a lock that is released once everything was sent or the time is over
    deadline: float  # on the monotonic clock
    last: bool = False  # True if the sender ends after it
    collected: bool = False  # True once the accumulators were emptied for it
    complete: bool = False  # True if everything that is wanted was sent

"""The sender: a thread that empties the accumulators every interval and sends the batches to the broker.

Intervals start at whole multiples of their length on the clock, so that none spans two minutes. Measured code calls
only `add`, `submit` and `refuse`, which neither block nor raise, also in a signal handler or destructor that interrupts
one of them. Whatever fails in the sender's thread is counted and logged; the thread goes on.
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
from .accumulate import Accumulator, Ticks, ValueSummary
from .broker_connection import BrokerConnection
from .naming import COUNTER, Identity
from .outbox import Outbox
from .wire import Batch, pack_batch, topic

MOST_METRICS = 100_000
MOST_SINGLES = 100_000  # single messages that wait for the sender
SEND_AT = 500  # waiting messages at which sending starts while accumulators are still being emptied
RETRY_S = 0.1  # between two attempts to send what could not be sent
LOST = Identity("warn", COUNTER, "zibrato.dropped", "zibrato")  # measurements that this process could not send
LISTEN_S = 1.0  # longest wait between two checks of the address
END_MARGIN_S = 0.5  # for the thread to end, beyond its time for sending
MOST_FAULTS_LOGGED = 20
log = logging.getLogger("zibrato")


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of what became of this process's measurements so far."""

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
        self._start_over()
        lifetime.watch(self)

    def _start_over(self) -> None:
        """Set the initial state of a process."""
        self._guard = native_thread.make_reentrant_lock()
        self._counting = native_thread.make_lock()  # only acquired without blocking
        self._pid = os.getpid()
        self._running = False
        self._ended = native_thread.make_lock()
        self._wake_read, self._wake_write = -1, -1
        self._woken = False
        self._singles: deque[tuple[bytes, bytes]] = deque()
        self._tickets: deque[_Ticket] = deque()
        self._outbox = Outbox()
        self._sent = 0
        self._refusals = Ticks(LOST, 1)
        self._refused = 0
        self._lost = 0  # measurements that could not be packed, or were made after the end
        self._stuck = False  # True while wanted messages cannot be sent
        self._incomplete = False  # True if messages were dropped at the end
        self._logged: set[str] = set()
        self._reported = 0
        self._publisher = secrets.token_hex(8)
        self._sequences: dict[str, tuple[int, int]] = {}  # by level: batches and measurements so far
        self._last_cut = int(time.time() // self._slot_s)

    @property
    def _slot_s(self) -> float:
        return self._interval_s or 1.0

    def add(self, accumulator: Accumulator) -> bool:
        """Empty this accumulator too from now on. Return False if there are too many."""
        with self._guard:
            if len(self._accumulators) >= MOST_METRICS:
                return False
            self._accumulators.append(accumulator)
        self.start()
        return True

    def submit(self, topic_: bytes, message: bytes) -> None:
        """Send one message as soon as possible, without blocking. Refuse it after the end or if too many wait."""
        if self._closed or len(self._singles) >= MOST_SINGLES:
            self.refuse()
            return
        self._singles.append((topic_, message))
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

        Messages that no subscriber wants, such as those of a level that no backend takes, go on waiting. Without any
        subscriber, all messages do.
        """
        if self._accumulators:
            self.start()
        if not self._running:
            return not self._singles and not self._outbox.waiting and not self._incomplete
        ticket = self._request(timeout_s)
        return native_thread.acquire_within(ticket.done, timeout_s) and ticket.complete

    def _request(self, timeout_s: float, *, last: bool = False) -> _Ticket:
        ticket = _Ticket(native_thread.make_lock(), time.monotonic() + timeout_s, last=last)
        ticket.done.acquire()
        self._tickets.append(ticket)
        self._wake()
        return ticket

    def close(self, timeout_s: float | None = None) -> None:
        """Send what was measured, for at most `timeout_s` (None = `exit_s`), and end. Can be called twice."""
        if (asked := self.ask_to_end(timeout_s)) is not None:
            self.await_end(asked)
            lifetime.forget(self)

    def ask_to_end(self, timeout_s: float | None = None) -> _Ticket | None:
        """Start to close, without blocking. Return the argument of `await_end`, or None if nothing runs."""
        with self._guard:
            closed, self._closed = self._closed, True
        if closed or not self._running:
            return None
        return self._request(self._exit_s if timeout_s is None else timeout_s, last=True)

    def await_end(self, asked: _Ticket) -> None:
        """Wait until the sender has ended or its time is over."""
        for lock in (asked.done, self._ended):
            native_thread.acquire_within(lock, max(0.0, asked.deadline - time.monotonic()) + END_MARGIN_S)

    def statistics(self) -> Statistics:
        """Return the counts so far."""
        box = self._outbox
        if self._counting.acquire(False):  # a call that interrupts another, or runs beside it, sees the last counts
            try:
                self._refused += self._refusals.taken()
                if self._closed and not self._running:
                    self._lost += sum(cut.count for each in list(self._accumulators) if (cut := each.cut()) is not None)
            finally:
                self._counting.release()
        waiting = box.waiting + len(self._singles)
        return Statistics(
            self._sent, waiting, box.dropped_messages, box.dropped_measurements + self._lost, self._refused
        )

    def _log_fault(self, what: str, error: Exception) -> None:
        """Log once what failed and why."""
        fault = f"{what}: {type(error).__name__} {error}"
        if fault not in self._logged and len(self._logged) < MOST_FAULTS_LOGGED:
            self._logged.add(fault)
            log.error("measuring goes on after a fault fault=%s", fault)

    def start_over_after_fork(self) -> None:
        """In a child process: discard what the parent will send, take a new id, and run again if the parent ran."""
        ran = self._running
        self._mark_stopped()
        self._start_over()
        for accumulator in self._accumulators:
            accumulator.start_over_after_fork()
        if ran and not self._closed:
            self.start()

    # In the sender's thread

    def _run(self) -> None:
        link = BrokerConnection(self._address)
        linger_s = 0.0
        try:
            ticket = None
            while ticket is None:
                ticket = self._safe_turn(link)
            linger_s = max(0.0, ticket.deadline - time.monotonic())
            self._drop_rest(ticket)
        finally:
            link.close(int(linger_s * 1000))
            with self._guard:
                self._mark_stopped()
            self._ended.release()
            if linger_s or self._closed:
                _release(self._tickets)

    def _drop_rest(self, ticket: _Ticket) -> None:
        """Count what waits at the end as lost, and log it if a subscriber might have wanted it."""
        self._take_singles()
        lost = self._outbox.drop_all()
        self._incomplete = lost > 0
        if lost and not ticket.complete:
            log.log(self._loss_level, "measurements are lost, nobody took them before the end measurements=%d", lost)

    def _safe_turn(self, link: BrokerConnection) -> _Ticket | None:
        """Do one turn. A failure costs that turn, never the thread."""
        try:
            return self._turn(link)
        except Exception as error:  # noqa: BLE001 - the loop's edge
            self._log_fault("the sender failed for a moment", error)
        native_thread.pause(RETRY_S)
        return self._answer(list(self._tickets), sent_all=False)

    def _turn(self, link: BrokerConnection) -> _Ticket | None:
        """Wait, cut if it is time or requested, send. Return the ticket that ends the thread, once it is answered."""
        if not link.subscribed:
            link.connect()
        self._wait(link)
        link.read_subscriptions()
        asked = list(self._tickets)
        slot = int(time.time() // self._slot_s)
        if slot != self._last_cut or any(not ticket.cut for ticket in asked):
            self._cut(min(self._last_cut, slot), link)
            self._last_cut = slot
        for ticket in asked:
            ticket.cut = True
        self._take_singles()
        self._stuck = not self._send_waiting(link)
        return self._answer(asked, sent_all=link.subscribed and not self._stuck)

    def _wait(self, link: BrokerConnection) -> None:
        wait_s = (self._last_cut + 1) * self._slot_s - time.time()
        if not link.subscribed:
            wait_s = min(wait_s, LISTEN_S)
        if self._stuck or self._tickets:
            wait_s = min(wait_s, RETRY_S)
        if self._singles or any(not ticket.cut for ticket in self._tickets):
            wait_s = 0.0
        poller = zmq.Poller()
        poller.register(self._wake_read, zmq.POLLIN)
        if link.socket is not None:
            poller.register(link.socket, zmq.POLLIN)
        poller.poll(max(0, int(wait_s * 1000) + 1) if wait_s > 0 else 0)
        self._woken = False
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _cut(self, slot: int, link: BrokerConnection) -> None:
        epoch = int(slot * self._slot_s)
        for accumulator in list(self._accumulators):
            if (summary := self._cut_one(accumulator)) is not None:
                self.put(accumulator.identity, epoch, summary)
                if self._outbox.waiting >= SEND_AT:
                    self._send_waiting(link)
        seen = self.statistics()
        if (lost := seen.dropped_measurements + seen.refused) > self._reported:
            self.put(LOST, epoch, ValueSummary(1, lost - self._reported))
            self._reported = lost

    def _cut_one(self, accumulator: Accumulator) -> ValueSummary | None:
        try:
            return accumulator.cut()
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

    def _take_singles(self) -> None:
        for _ in range(len(self._singles)):
            topic_, message = self._singles.popleft()
            self._outbox.put(topic_, message, 1)

    def _send_waiting(self, link: BrokerConnection) -> bool:
        return self._outbox.send(link.wants, lambda message: self._send(link, message))

    def _send(self, link: BrokerConnection, message: bytes) -> bool:
        sent = link.send(message)
        self._sent += sent
        return sent

    def _answer(self, asked: list[_Ticket], *, sent_all: bool) -> _Ticket | None:
        now = time.monotonic()
        for ticket in asked:
            ticket.complete = sent_all or not self._outbox.waiting
            if ticket.complete or now >= ticket.deadline:
                self._tickets.remove(ticket)
                ticket.done.release()
                if ticket.last:
                    return ticket
        return None


@dataclass(slots=True, eq=False)
class _Ticket:
    """A request to send what was measured so far, and its outcome."""

    done: Any  # a lock that is released once everything was sent or the time is over
    deadline: float  # on the monotonic clock
    last: bool = False  # True if the sender ends after it
    cut: bool = False  # True once the accumulators were emptied for it
    complete: bool = False  # True if everything that is wanted was sent


def _release(tickets: deque[_Ticket]) -> None:
    while tickets:
        tickets.popleft().done.release()

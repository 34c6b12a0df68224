"""The sender: a thread that empties the accumulators every interval and hands the batches to the broker.

Intervals begin at whole multiples of their length on the clock, so that none lies in two minutes. Nothing here is
called by measured code except `add`, `submit` and `refuse`, which neither block nor raise, also in a signal handler or
a destructor that interrupts one of them. Whatever fails in the sender's thread is counted and said; the thread goes on.
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

from . import lifetime, native
from .accumulate import Accumulator, Ticks, ValueSummary
from .link import BrokerConnection
from .naming import COUNTER, Identity
from .outbox import Outbox
from .wire import Batch, pack_batch, topic

MOST_METRICS = 100_000
MOST_SINGLES = 100_000  # that wait for the sender
SEND_AT = 500  # messages that wait while accumulators are emptied before some are sent
RETRY_S = 0.1  # between two attempts while something waits that cannot be sent
LOST = Identity("warn", COUNTER, "zibrato.dropped", "zibrato")  # measurements that this process could not send
LISTEN_S = 1.0  # longest wait without a look at the address
END_MARGIN_S = 0.5  # for the thread itself to end, beyond what it was given to send
MOST_FAULTS_SAID = 20
log = logging.getLogger("zibrato")


@dataclass(frozen=True, slots=True)
class Statistics:
    """What became of the measurements of this process so far."""

    sent: int  # messages handed to ZeroMQ
    waiting: int  # messages for which nobody listens yet
    dropped_messages: int
    dropped_measurements: int
    refused: int  # measurements that were no numbers, of one metric too many, or came after the end


class Publisher:
    """Owns the accumulators, the sender's thread and its socket. Its methods may be called by any thread."""

    def __init__(self, address: Callable[[], str], interval_s: float, exit_s: float) -> None:
        self._address = address
        self._interval_s = interval_s
        self._exit_s = exit_s
        self._accumulators: list[Accumulator] = []
        self._closed = False
        self._start_over()
        lifetime.watch(self)

    def _start_over(self) -> None:
        """The state of one process."""
        self._guard = native.make_reentrant_lock()
        self._counting = native.make_lock()  # only ever tried
        self._pid = os.getpid()
        self._running = False
        self._ended = native.make_lock()
        self._wake_read, self._wake_write = -1, -1
        self._woken = False
        self._singles: deque[tuple[bytes, bytes]] = deque()
        self._tickets: deque[_Ticket] = deque()
        self._outbox = Outbox()
        self._sent = 0
        self._refusals = Ticks(LOST, 1)
        self._refused = 0
        self._lost = 0  # measurements that could not be packed, or came after the end
        self._stuck = False  # whether something waits that is wanted
        self._incomplete = False  # whether something was given up at the end
        self._said: set[str] = set()
        self._reported = 0
        self._publisher = secrets.token_hex(8)
        self._sequences: dict[str, tuple[int, int]] = {}  # by level: batches and measurements so far
        self._last_cut = int(time.time() // self._slot_s)

    @property
    def _slot_s(self) -> float:
        return self._interval_s or 1.0

    # Called by any thread

    def add(self, accumulator: Accumulator) -> bool:
        """Empty this accumulator too from now on; False when there are too many."""
        with self._guard:
            if len(self._accumulators) >= MOST_METRICS:
                return False
            self._accumulators.append(accumulator)
        self.start()
        return True

    def submit(self, topic_: bytes, message: bytes) -> None:
        """Send one message as soon as possible. Neither blocks nor raises; refused when too many wait or at the end."""
        if self._closed or len(self._singles) >= MOST_SINGLES:
            self.refuse()
            return
        self._singles.append((topic_, message))
        if not self._running:
            self.start()
        elif not self._woken:
            self._wake()

    def refuse(self) -> None:
        """Count a measurement that cannot be taken; it is reported with the next interval."""
        self._refusals.tick()

    def start(self) -> None:
        """Make the sender run, if it does not and is not closed. When the system has no thread left: tried again."""
        if self._running or self._closed:
            return
        with self._guard:
            if self._running or self._closed:
                return
            self._running = True  # first: a signal handler may come here again at any line
            try:
                self._wake_read, self._wake_write = os.pipe()
                os.set_blocking(self._wake_write, False)
                os.set_blocking(self._wake_read, False)
                self._ended.acquire(False)
                native.start_thread(self._run)
            except (OSError, RuntimeError) as error:
                self._let_go()
                self._fault("the sender cannot start yet", error)
        lifetime.end_with_child()

    def _let_go(self) -> None:
        """Say that the thread does not run, and give back what it is woken with."""
        self._running = False
        for descriptor in (self._wake_read, self._wake_write):
            if descriptor >= 0:
                os.close(descriptor)
        self._wake_read = self._wake_write = -1

    def _wake(self) -> None:
        self._woken = True
        with contextlib.suppress(OSError):  # full: it is awake; or closed meanwhile
            os.write(self._wake_write, b"x")

    def flush(self, timeout_s: float) -> bool:
        """Whether all that was measured before this call was, within `timeout_s`, handed to those who want it.

        What nobody wants, such as a level that no backend takes, goes on waiting; with nobody there at all, everything.
        """
        if self._accumulators:
            self.start()
        if not self._running:
            return not self._singles and not self._outbox.waiting and not self._incomplete
        ticket = self._ask(timeout_s)
        return native.acquire_within(ticket.done, timeout_s) and ticket.complete

    def _ask(self, timeout_s: float, *, last: bool = False) -> _Ticket:
        ticket = _Ticket(native.make_lock(), time.monotonic() + timeout_s, last=last)
        ticket.done.acquire()
        self._tickets.append(ticket)
        self._wake()
        return ticket

    def close(self, timeout_s: float | None = None) -> None:
        """Send what was measured, for at most `timeout_s` (`exit_s` when None), and end. May be called twice."""
        if (asked := self.ask_to_end(timeout_s)) is not None:
            self.await_end(asked)
            lifetime.forget(self)

    def ask_to_end(self, timeout_s: float | None = None) -> _Ticket | None:
        """The first half of `close`: returns at once."""
        with self._guard:
            closed, self._closed = self._closed, True
        if closed or not self._running:
            return None
        return self._ask(self._exit_s if timeout_s is None else timeout_s, last=True)

    def await_end(self, asked: _Ticket) -> None:
        """The second half: wait until the sender has ended, or its time is over."""
        for lock in (asked.done, self._ended):
            native.acquire_within(lock, max(0.0, asked.deadline - time.monotonic()) + END_MARGIN_S)

    def statistics(self) -> Statistics:
        """What became of the measurements so far."""
        box = self._outbox
        if self._counting.acquire(False):  # who is interrupted in here, or looks at the same time, sees the last count
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

    def _fault(self, what: str, error: Exception) -> None:
        """Say once what failed and why."""
        said = f"{what}: {type(error).__name__} {error}"
        if said not in self._said and len(self._said) < MOST_FAULTS_SAID:
            self._said.add(said)
            log.error("measuring goes on, but %s", said)

    def start_over_after_fork(self) -> None:
        """In a child process: forget what is the parent's to send, take a name of its own, run again if it ran."""
        ran = self._running
        self._let_go()
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
                ticket = self._turn_or_say(link)
            linger_s = max(0.0, ticket.deadline - time.monotonic())
            self._give_up(ticket)
        finally:
            link.close(int(linger_s * 1000))
            with self._guard:
                self._let_go()
            self._ended.release()
            if linger_s or self._closed:
                _release(self._tickets)

    def _give_up(self, ticket: _Ticket) -> None:
        """Count what waits at the end as lost, and say so if anybody might have wanted it."""
        self._take_singles()
        lost = self._outbox.drop_all()
        self._incomplete = lost > 0
        if lost and not ticket.complete:
            log.warning("%d measurements are lost: nobody took them before the end", lost)

    def _turn_or_say(self, link: BrokerConnection) -> _Ticket | None:
        """One turn; whatever fails in it costs that turn, never the thread."""
        try:
            return self._turn(link)
        except Exception as error:  # noqa: BLE001 - the edge of the loop
            self._fault("the sender failed for a moment", error)
        native.pause(RETRY_S)
        return self._answer(list(self._tickets), sent_all=False)

    def _turn(self, link: BrokerConnection) -> _Ticket | None:
        """Wait, cut when it is time or asked for, send; return the ticket that ends the thread once it is due."""
        if not link.heard:
            link.connect()
        self._wait(link)
        link.hear()
        asked = list(self._tickets)
        slot = int(time.time() // self._slot_s)
        if slot != self._last_cut or any(not ticket.cut for ticket in asked):
            self._cut(min(self._last_cut, slot), link)
            self._last_cut = slot
        for ticket in asked:
            ticket.cut = True
        self._take_singles()
        self._stuck = not self._send_waiting(link)
        return self._answer(asked, sent_all=link.heard and not self._stuck)

    def _wait(self, link: BrokerConnection) -> None:
        wait_s = (self._last_cut + 1) * self._slot_s - time.time()
        if not link.heard:
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
        except Exception as error:  # noqa: BLE001 - one metric does not cost the others
            self._fault(f"{accumulator.identity.name!r} cannot be summed", error)
            return None

    def put(self, who: Identity, epoch: int, summary: ValueSummary) -> None:
        """Queue a batch under the next number of its level; one that cannot be packed is counted as lost there.

        Only for the sender's thread.
        """
        batches, before = self._sequences.get(who.level, (0, 0))
        self._sequences[who.level] = (batches + 1, before + summary.count)
        batch = Batch(
            who, epoch, summary.count, summary.sum, self._publisher, batches + 1, before,
            summary.min, summary.max, summary.last, summary.sketch,
        )  # fmt: skip
        try:
            message = pack_batch(batch)
        except Exception as error:  # noqa: BLE001 - one metric does not cost the others
            self._lost += summary.count
            self._fault(f"{who.name!r} cannot be sent", error)
        else:
            self._outbox.put(topic(who.level), message, summary.count)

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
    """Somebody waits until what was measured is on its way."""

    done: Any  # a lock, released when it is so or the time is over
    deadline: float
    last: bool = False  # whether the sender ends then
    cut: bool = False  # whether the accumulators were emptied for it
    complete: bool = False


def _release(tickets: deque[_Ticket]) -> None:
    while tickets:
        tickets.popleft().done.release()

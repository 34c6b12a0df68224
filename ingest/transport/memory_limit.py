"""Keep the memory of a process that receives bounded: hold the connections of its senders while it has too much.

Memory is what the kernel counts as resident (`statm` in proc(5)), whatever holds it: messages in libzmq that are
complete or have arrived in part, or what was read and is not written yet.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import zmq

from ingest.free_memory import return_free_memory, return_large_blocks
from ingest.log_limit import LogLimit
from ingest.transport.connection_hold import RECEIVE_BUFFER_BYTES, Connection, ConnectionHolder, Window
from ingest.transport.hold_decision import RELEASED_BYTES, HoldDecision, Progress

log = logging.getLogger(__name__)

MIB = 2**20
ROOM_BYTES = 64 * MIB  # what a process may need above its memory at the start until senders are held
CHILD_BYTES = 100 * MIB + ROOM_BYTES  # the same of a process that another one feeds
BYTES_PER_S = 4 * 2**30  # nothing arrives faster than this
GROWTH_BYTES = 2 * MIB  # after so much, connections are looked at again
TICK_S, LONGEST_TICK_S = 0.005, 0.05
LOOK_SHARE = 4  # a pause is so many times as long as a look takes
SHORT_SWITCH_S = 0.0002  # while memory is short: at each system call other threads go on, otherwise for 5 ms each time
AHEAD = 2  # growth is expected to go on for so many ticks
LOG_EVERY_S = 60.0
TRIM_EVERY_S = 0.5
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryLimit:
    """Hold senders of the sockets bound at the keys of `progress` while this process has `room_bytes` more than now.

    `progress` says of each address how far its reading is. `fed` returns the ids of processes to which this one passes
    on what it receives: senders are also held while one of those has more than `CHILD_BYTES`. Both are called in
    another thread, and must not block. `start` and `stop` belong to one thread; after `stop` nobody is held. Where the
    system cannot hold a connection, or does not say how much memory there is, nobody is held, and a warning says so.
    """

    def __init__(
        self,
        progress: Mapping[str, Callable[[], Progress]],
        *,
        fed: Callable[[], Iterable[int]] = tuple,
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        self._progress = progress
        self._fed = fed
        self._room_bytes = room_bytes
        self._stopping = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="memory-limit", daemon=True)
        self._holder = ConnectionHolder(list(progress))
        self._decision = HoldDecision()
        self._windows: dict[int, tuple[Connection, Window]] = {}  # by cookie, of those that are not open
        self._turn: Connection | None = None  # one of them, whose window is narrow
        self._lock = threading.Lock()  # of both
        self._newcomers_refused = False
        self._look_s = self._looked_at = 0.0
        self._looked_excess = self._excess_before = 0
        self._log_limit, self._trim_limit = LogLimit(LOG_EVERY_S), LogLimit(TRIM_EVERY_S)

    def start(self) -> None:
        """Start to watch, if there are connections that can be held."""
        if any(address.startswith("tcp:") for address in self._progress):
            return_large_blocks()
            self._thread.start()

    def end_held(self) -> None:
        """End the connections of those that are held, or would be from now on: before the process ends.

        Reading all that they still send would take minutes, and their memory.
        """
        with self._lock:
            self._ending = True

    def stop(self) -> None:
        """Release everybody, unless `end_held` was called. Can be called twice, and without `start`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def large_was_read(self) -> None:
        """End the turn of a connection, which a reader of its own thread can say sooner than the next look can see."""
        if self._turn is None:
            return
        with self._lock, contextlib.suppress(OSError):
            turn, self._turn = self._turn, None
            if turn is not None:  # no look has ended it meanwhile
                self._set_window(turn, Window.HELD)

    @property
    def held_count(self) -> int:
        """Return how many connections are held now."""
        return len(self._windows)

    def _run(self) -> None:
        try:
            with Path("/proc/self/statm").open("rb", buffering=0) as statm:
                self._watch(statm)
        except OSError as error:
            log.warning("memory of waiting messages is bounded by their number only reason=%r", error)

    def _watch(self, statm: Any) -> None:
        limit = _memory_bytes(statm) + self._room_bytes
        excess = -self._room_bytes
        switch_s = sys.getswitchinterval()
        try:
            while not self._stopping.wait(self._pause_s(excess)):
                now = _memory_bytes(statm) - limit
                of_fed = max(self._excess_of_fed(), default=-self._room_bytes)
                excess = max(now + AHEAD * max(0, now - self._excess_before), of_fed)
                self._excess_before = now
                if (self._windows or excess >= -RELEASED_BYTES) and self._trim_limit.allows():
                    return_free_memory()
                if self._is_due(excess):
                    self._look(excess, turns=of_fed < 0)
                sys.setswitchinterval(SHORT_SWITCH_S if excess >= -RELEASED_BYTES else switch_s)
        finally:
            sys.setswitchinterval(switch_s)
            self._refuse_newcomers(refused=False)
            with self._lock:
                for connection, _ in list(self._windows.values()):
                    self._set_window(connection, Window.ENDED if self._ending else Window.OPEN)
                self._windows.clear()
                self._turn = None

    def _excess_of_fed(self) -> list[int]:
        found = []
        for process in self._fed():
            with contextlib.suppress(OSError, ValueError), Path(f"/proc/{process}/statm").open("rb") as statm:
                found.append(_memory_bytes(statm) - CHILD_BYTES)
        return found

    def _pause_s(self, excess: int) -> float:
        """Return how long memory can be left alone: until senders may have filled what is left of it."""
        left_s = TICK_S if self._windows else max(0, -excess) / BYTES_PER_S
        return max(TICK_S, min(left_s, LONGEST_TICK_S), LOOK_SHARE * self._look_s)

    def _is_due(self, excess: int) -> bool:
        if excess < -RELEASED_BYTES and not self._windows and not self._newcomers_refused:
            return False
        pause_s = TICK_S if self._decision.has_turn else LONGEST_TICK_S
        return excess > self._looked_excess + GROWTH_BYTES or time.monotonic() - self._looked_at >= pause_s

    def _look(self, excess: int, *, turns: bool) -> None:
        """Look at all connections, and hold or release some; without `turns`, nobody who is held may send meanwhile."""
        began, began_thread_s = time.monotonic(), time.thread_time()
        progress = {address: ask() for address, ask in self._progress.items()}
        if not turns:
            progress = {address: each.without_turns() for address, each in progress.items()}
        connections = {each.cookie: each for each in self._holder.connections()}
        held = bool(self._windows)
        with self._lock:
            self._windows = {cookie: kept for cookie, kept in self._windows.items() if cookie in connections}
        changes = self._decision.decide(list(connections.values()), excess, progress, began)
        if self._ending:
            changes = dict.fromkeys(self._decision.windows, Window.ENDED)
        self._refuse_newcomers(refused=self._decision.refuses_newcomers)
        with self._lock:
            for cookie, window in changes.items():
                self._set_window(connections[cookie], window)
        self._looked_at, self._looked_excess = time.monotonic(), excess
        self._look_s = time.thread_time() - began_thread_s
        if self._windows and not held and self._log_limit.allows():
            log.warning("memory short, senders are held excess_bytes=%d held=%d", excess, len(self._windows))

    def _set_window(self, connection: Connection, window: Window) -> None:
        """Set a window, and know it; whoever calls this has the lock."""
        _, before = self._windows.pop(connection.cookie, (connection, Window.OPEN))
        if self._turn is not None and self._turn.cookie == connection.cookie:
            self._turn = None
        self._holder.set_window(connection, window, before)
        if window is not Window.OPEN:
            self._windows[connection.cookie] = connection, window
        if window is Window.NARROW:
            self._turn = connection

    def _refuse_newcomers(self, *, refused: bool) -> None:
        with self._lock:  # once the end begins, the sockets refuse them themselves
            if refused is not self._newcomers_refused and not self._ending:
                self._holder.refuse_newcomers(refused=refused)
                self._newcomers_refused = refused


def _memory_bytes(statm: Any) -> int:
    """Return the resident memory of a process; `statm` is the open file of proc(5)."""
    return int(os.pread(statm.fileno(), 100, 0).split()[1]) * _PAGE_BYTES


def limit_buffer(socket: zmq.Socket[bytes]) -> None:
    """Let the kernel hold little for each connection. Call it before `bind`; it has no effect on local ones."""
    with contextlib.suppress(zmq.ZMQError):
        socket.setsockopt(zmq.RCVBUF, RECEIVE_BUFFER_BYTES)

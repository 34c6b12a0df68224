"""Balance the load over several ingesters: bind the addresses, hand messages to children, replace children that fail.

Each child is a whole ingester with its own journal, behind local sockets. The load balancer reads a sender's socket
only while a child has space, so it holds no event for long, except at the end. If a child is killed, pushed messages
that it has received and not journalled are lost; what it has acknowledged is in its journal, which another child
adopts.

At the end the children receive everything that was read before they are stopped. The load balancer itself journals what
none of them reads (`ingest.server.leftover_journal`); `ingest.server.relay` explains how a relay ends.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import zmq

from ingest.exceptions import IngesterFailedError
from ingest.journal.segment import journal_errors
from ingest.server.child_health import ChildHealth
from ingest.server.leftover_journal import LeftoverJournal
from ingest.server.push_reader import PUSH_READERS, end_mark
from ingest.server.relay import SOCKET_PAIRS, Relay
from ingest.settings import IngestSettings
from ingest.transport.awake_clock import AwakeClock, wait_while_moving
from ingest.transport.memory_limit import MemoryLimit

log = logging.getLogger(__name__)

CHECK_EVERY_S = 0.2
RESTART_PAUSE_S = 1.0
HUNG_AFTER_S = 30.0  # a child silent for longer is killed and replaced
START_WITHIN_S = 120.0  # the same until its first answer
CHILDREN_READ_WITHIN_S = 1.5  # at the end: if no child reads for this long, the load balancer journals the rest itself
LEFTOVER_WITHIN_S = 20.0  # at the end: if nothing moves for this long, the rest is lost
CHILD_STOP_WITHIN_S = 60.0  # a child can hold hundreds of megabytes that it has not journalled
LONGEST_IPC_PATH = 90  # sun_path in unix(7) has 108 bytes, the file's name included
LEFTOVER = "rest"  # in place of a child's number in the addresses of the leftover journal


class StopRequest(Protocol):
    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the request, at most `timeout_s`; return whether it was made."""


def child_addresses(folder: Path, number: int | str) -> dict[str, str]:
    """Return where child `number` listens, by key of the settings."""
    return {pair.key: f"ipc://{folder}/{number}.{pair.key.split('_')[0]}" for pair in SOCKET_PAIRS}


def child_settings(settings: IngestSettings, folder: Path, number: int) -> IngestSettings:
    """Return the settings of one child: those of the load balancer, but with the child's local addresses."""
    addresses: dict[str, Any] = child_addresses(folder, number)
    return replace(settings, **addresses, curve=None, backdoor=None, hops=1, end_mark=end_mark(folder))


class LoadBalancer:
    """A load balancer and its children. Call `start`, `run` (until stopped) and `close` from one thread.

    `start` raises `BindError`. `command(folder, number)` is the command line that runs child `number`.
    """

    def __init__(
        self,
        settings: IngestSettings,
        count: int,
        run_folder: Path,
        command: Callable[[Path, int], Sequence[str]],
        environment: Mapping[str, str],
        *,
        hung_after_s: float = HUNG_AFTER_S,
    ) -> None:
        self._settings = settings
        self._hung_after_s = hung_after_s
        self._command = command
        self._environment = dict(environment)
        run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        short = len(str(run_folder)) <= LONGEST_IPC_PATH - 20
        self._folder = Path(tempfile.mkdtemp(prefix="in-", dir=run_folder if short else None))
        self._children: list[subprocess.Popen[bytes] | None] = [None] * count
        self._start_at = [0.0] * count
        self._clock = AwakeClock(longest_step_s=2 * CHECK_EVERY_S)
        self._relays: list[Relay] = []
        self._memory_limit = MemoryLimit({})
        self._context: zmq.Context[Any] = zmq.Context()
        receivers = [child_addresses(self._folder, number)["ack_bind_address"] for number in range(count)]
        self._child_health = [ChildHealth(self._context, receiver) for receiver in receivers]

    @property
    def addresses(self) -> dict[str, str]:
        """Return the bound addresses of the load balancer, by key of the settings."""
        return {relay.pair.key: relay.address for relay in self._relays}

    def processes(self) -> list[int]:
        """Return the process ids of the children, 0 for one that is not running."""
        return [child.pid if child is not None and child.poll() is None else 0 for child in self._children]

    def _running(self) -> list[int]:
        return [process for process in self.processes() if process]

    def start(self) -> None:
        """Bind everything and start the children. Raise `JournalError` if none of them can have a journal."""
        journals = self._settings.journal.folder
        child_sockets = [child_addresses(self._folder, number) for number in range(len(self._children))]
        try:
            with journal_errors(journals):
                journals.mkdir(mode=0o700, parents=True, exist_ok=True)
            for pair in SOCKET_PAIRS:
                children = [child[pair.key] for child in child_sockets]
                if pair.key in PUSH_READERS:
                    children.append(child_addresses(self._folder, LEFTOVER)[pair.key])  # bound only at the end
                address, mark = getattr(self._settings, pair.key), end_mark(self._folder)
                self._relays.append(Relay(pair, address, children, self._settings.curve, mark))
        except BaseException:
            relays, self._relays = self._relays, []
            for relay in relays:
                relay.discard()
            self.close()
            raise
        for relay in self._relays:
            relay.start()
        self._memory_limit = MemoryLimit({relay.address: relay.progress for relay in self._relays}, fed=self._running)
        self._memory_limit.start()
        self.check_children()

    def wait_until_ready(self, stop: StopRequest, within_s: float = START_WITHIN_S) -> None:
        """Return once every child answers or `stop` is requested; log a warning after `within_s`."""
        deadline = time.monotonic() + within_s
        while not all(health.ready for health in self._child_health):
            if time.monotonic() >= deadline:
                log.warning("some ingesters do not answer yet, see their logs after_s=%g", within_s)
                return
            if stop.wait(CHECK_EVERY_S):
                return
            self.check_children()

    def run(self, stop: StopRequest) -> None:
        """Keep the children running until `stop` is requested, then close everything."""
        while not stop.wait(CHECK_EVERY_S):
            self.check_children()
            self._check_relays()
        self.close()

    def _check_relays(self) -> None:
        if ended := [relay.pair.key for relay in self._relays if relay.ended]:
            raise IngesterFailedError(f"the load balancer passes nothing on any more: {', '.join(ended)}; see its log")

    def check_children(self) -> None:
        """Start every child that is missing, at most once in `RESTART_PAUSE_S`; kill one that hangs."""
        now = self._clock.tick()
        for number, child in enumerate(self._children):
            if child is not None and child.poll() is None:
                self._kill_if_hung(number, child, now)
                continue
            if child is not None:
                log.warning("ingester ended, it is restarted number=%d code=%s", number, child.returncode)
                self._children[number] = None
                self._start_at[number] = max(self._start_at[number], now)
            if now >= self._start_at[number]:
                self._start_at[number] = now + RESTART_PAUSE_S
                self._children[number] = subprocess.Popen(
                    self._command(self._folder, number), env=self._environment, stdin=subprocess.DEVNULL
                )
                self._child_health[number].restart(now)

    def _kill_if_hung(self, number: int, child: subprocess.Popen[bytes], now: float) -> None:
        silent_s = self._child_health[number].check(now)
        if silent_s <= (self._hung_after_s if self._child_health[number].ready else START_WITHIN_S):
            return
        log.error(
            "ingester hangs, it is replaced; its journal is adopted, pushed messages not yet journalled are lost "
            "number=%d pid=%d silent_s=%.0f", number, child.pid, silent_s,
        )  # fmt: skip
        child.kill()

    def close(self) -> None:
        """Stop reading, let the children store what was received, stop them. Can be called twice."""
        self._memory_limit.end_held()
        self._memory_limit.stop()
        relays, self._relays = self._relays, []
        pushed = [relay for relay in relays if relay.pair.key in PUSH_READERS]
        self._deliver_everything(pushed)
        self._end_children()
        for relay in [*pushed, *(relay for relay in relays if relay not in pushed)]:
            relay.stop()
        for health in self._child_health:
            health.close()
        self._context.term()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _deliver_everything(self, relays: Sequence[Relay]) -> None:
        """Return once the children, or a journal, have received everything that was read."""
        for relay in relays:
            relay.request_end()
        if _all_delivered(relays, CHILDREN_READ_WITHIN_S):
            return
        addresses = child_addresses(self._folder, LEFTOVER)
        leftover = LeftoverJournal(addresses, end_mark(self._folder), self._settings.journal)
        leftover.start()
        _all_delivered(relays, LEFTOVER_WITHIN_S)
        leftover.finish(LEFTOVER_WITHIN_S)

    def _end_children(self) -> None:
        for child in self._children:
            if child is not None and child.poll() is None:
                child.terminate()
        clock = AwakeClock()
        for number, child in enumerate(self._children):
            if child is None:
                continue
            while child.poll() is None and clock.tick() < CHILD_STOP_WITHIN_S:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(CHECK_EVERY_S / 4)
            if child.poll() is None:
                log.error(
                    "ingester does not stop, it is killed; its journal is adopted at the next start, pushed messages "
                    "not yet journalled are lost number=%d pid=%d", number, child.pid,
                )  # fmt: skip
                child.kill()
                child.wait()
            elif child.returncode not in (0, -signal.SIGTERM):  # by SIGTERM a child ends that was not ready yet
                log.warning(
                    "ingester ended before it was told to; its journal is adopted at the next start, pushed messages "
                    "not yet journalled are lost number=%d code=%s", number, child.returncode,
                )  # fmt: skip


def _all_delivered(relays: Sequence[Relay], within_s: float) -> bool:
    """Return whether everything was delivered, as soon as it was or nothing has moved for `within_s`."""

    def moved() -> int:
        return sum(relay.moved for relay in relays)

    return all(wait_while_moving(relay.all_delivered.wait, moved, within_s) for relay in relays)

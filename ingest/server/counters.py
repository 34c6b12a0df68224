"""Count what one ingester process received; the totals over all of them come from `ingest.store.ingester_report`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from ingest.store.block_content import Verdict

SAMPLE_S = 0.1
SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Counts:
    """Events and refused inputs since the process started."""

    received: int = 0  # written to this process's own journal
    settled: int = 0  # of `received`, those with a verdict
    stored: int = 0  # this and the three below include adopted journals
    duplicates: int = 0
    quarantined: int = 0
    blocks: int = 0

    @property
    def pending(self) -> int:
        """Return the number of events in the own journal that have no verdict yet."""
        return self.received - self.settled


class Counters:
    """Count what one process received and committed. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._guard = threading.Lock()
        self._clock = clock
        self._counts = Counts()
        self._arrivals: deque[tuple[int, float]] = deque()  # samples of (received before, time), for `oldest_pending_s`

    def received(self, count: int) -> None:
        """Count events or refused inputs that were written to the own journal."""
        with self._guard:
            before, now = self._counts.received, self._clock()
            self._counts = replace(self._counts, received=before + count)
            if len(self._arrivals) < SAMPLES and (not self._arrivals or now - self._arrivals[-1][1] >= SAMPLE_S):
                self._arrivals.append((before, now))

    def committed(self, verdict: Verdict, *, adopted: bool) -> None:
        with self._guard:
            before = self._counts
            self._counts = replace(
                before,
                settled=before.settled + (0 if adopted else verdict.received),
                stored=before.stored + verdict.stored,
                duplicates=before.duplicates + verdict.duplicates,
                quarantined=before.quarantined + verdict.quarantined,
                blocks=before.blocks + 1,
            )
            while len(self._arrivals) > 1 and self._arrivals[1][0] <= self._counts.settled:
                self._arrivals.popleft()
            if self._counts.pending == 0:
                self._arrivals.clear()

    def counts(self) -> Counts:
        with self._guard:
            return self._counts

    def oldest_pending_s(self) -> float:
        """Return for about how many seconds the oldest event without a verdict has waited; 0 if there is none."""
        with self._guard:
            return self._clock() - self._arrivals[0][1] if self._arrivals else 0.0


class RateMeter:
    """Compute rates from successive snapshots of the counts. Not thread-safe."""

    def __init__(self) -> None:
        self._before: tuple[float, Counts] | None = None

    def rates(self, counts: Counts, now_s: float) -> dict[str, float]:
        """Return events per second since the previous call, keyed as an ingester reports them; zeros at first."""
        before_s, before = self._before or (now_s, counts)
        self._before = now_s, counts
        passed_s = now_s - before_s
        return {
            "received_per_s": (counts.received - before.received) / passed_s if passed_s > 0 else 0.0,
            "stored_per_s": (counts.stored - before.stored) / passed_s if passed_s > 0 else 0.0,
        }

"""Count what publishers sent and did not arrive, by the sequence numbers of their batches. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.metrics.wire import Batch

MOST_PUBLISHERS = 10_000


@dataclass
class DeliveryCount:
    """Counts of what one backend received, and missed, from all publishers since it subscribed."""

    batches: int = 0
    measurements: int = 0
    lost_batches: int = 0
    lost_measurements: int = 0

    def __post_init__(self) -> None:
        self._next: dict[tuple[str, str], tuple[int, int]] = {}  # by publisher and level: sequence, measurements before

    def add(self, batch: Batch) -> tuple[int, int]:
        """Count a batch. Return how many batches and measurements are missing between it and the previous one."""
        self.batches += 1
        self.measurements += batch.count
        if not batch.publisher:
            return 0, 0
        key = (batch.publisher, batch.identity.level)
        expected = self._next.pop(key, (batch.sequence, batch.before))
        self._next[key] = (batch.sequence + 1, batch.before + batch.count)
        while len(self._next) > MOST_PUBLISHERS:
            self._next.pop(next(iter(self._next)))  # silent for longest
        missing = max(0, batch.sequence - expected[0]), max(0, batch.before - expected[1])
        self.lost_batches += missing[0]
        self.lost_measurements += missing[1]
        return missing

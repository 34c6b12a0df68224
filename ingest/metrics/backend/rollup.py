"""Merge single measurements, and batches if wanted, by metric between two flushes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.metrics.clamp import clamp
from ingest.metrics.identity import Identity
from ingest.metrics.metric_type import COUNTER, SET
from ingest.metrics.sketch import DistinctSketch, LogSketch
from ingest.metrics.value_check import MOST_COUNT
from ingest.metrics.wire import Batch, Measurement


@dataclass
class RollupEntry:
    """The measurements of one metric in one span; the fields are those of a batch."""

    count: int = 0
    sum: float | int = 0
    min: float | int | None = None
    max: float | int | None = None
    last: float | int | None = None
    sketch: LogSketch = field(default_factory=LogSketch)
    distinct: DistinctSketch = field(default_factory=DistinctSketch)

    def add(self, measurement: Measurement) -> None:
        self.count += 1
        if isinstance(measurement.value, str):
            self.distinct.add_all([measurement.value])
            return
        self.sum = clamp(self.sum + measurement.value)
        if measurement.type != COUNTER:
            self._widen(measurement.value, measurement.value, measurement.value)
            self.sketch.add_all([measurement.value])

    def merge(self, batch: Batch) -> None:
        self.count = min(self.count + batch.count, MOST_COUNT)
        if batch.identity.type == SET:
            self.distinct.merge(DistinctSketch.from_document(batch.sketch or {}))
            return
        self.sum = clamp(self.sum + batch.sum)
        if batch.min is not None and batch.max is not None and batch.last is not None:
            self._widen(batch.min, batch.max, batch.last)
            self.sketch.merge(LogSketch.from_document(batch.sketch or {}))

    def _widen(self, lowest: float, highest: float, last: float) -> None:
        self.min = lowest if self.min is None else min(self.min, lowest)
        self.max = highest if self.max is None else max(self.max, highest)
        self.last = last

    def merge_scaled(self, other: RollupEntry, rate: float) -> None:
        """Add another metric of the same type, scaled up from its sampling rate `rate`. Changes `other`."""
        weight = round(1 / rate)
        self.count = min(self.count + (other.count if rate == 1 else round(other.count / rate)), MOST_COUNT)
        self.sum = clamp(self.sum + (other.sum if rate == 1 else other.sum / rate))
        self.distinct.merge(other.distinct)
        if other.min is not None and other.max is not None and other.last is not None:
            self._widen(other.min, other.max, other.last)
        if weight > 1:
            for counts in (other.sketch.positive, other.sketch.negative):
                for bucket in counts:
                    counts[bucket] *= weight
            other.sketch.zero *= weight
        self.sketch.merge(other.sketch)


class Rollup:
    """Measurements by identity and span of `span_s` seconds; 0 = one span from flush to flush."""

    def __init__(self, span_s: int = 0) -> None:
        self._span_s = span_s
        self._found: dict[tuple[Identity, int], RollupEntry] = {}

    def __len__(self) -> int:
        return len(self._found)

    def _entry(self, identity: Identity, epoch: int) -> RollupEntry:
        start = epoch - epoch % self._span_s if self._span_s else 0
        return self._found.setdefault((identity, start), RollupEntry())

    def add(self, item: Measurement | Batch) -> None:
        if isinstance(item, Batch):
            self._entry(item.identity, item.epoch).merge(item)
        else:
            self._entry(Identity(item.level, item.type, item.name, item.source), item.epoch).add(item)

    def collect(self) -> list[tuple[Identity, int, RollupEntry]]:
        """Return what was added since the last call: identity, start of its span (0 without spans), and numbers."""
        found, self._found = self._found, {}
        return [(identity, start, gathered) for (identity, start), gathered in found.items()]

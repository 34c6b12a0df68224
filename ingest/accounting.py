"""Counters of one ingester process, for its log and for `/metrics`; the truth over all of them is in the verdicts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from ingest.commit import Verdict


@dataclass(frozen=True, slots=True)
class Counts:
    """Events and refused input since the start of the process."""

    received: int = 0  # on disk in the journal, or found in an adopted one when settled
    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0
    blocks: int = 0


class Counters:
    """Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts = Counts()

    def received(self, count: int) -> None:
        """`count` events or refusals are in the journal."""
        with self._guard:
            self._counts = replace(self._counts, received=self._counts.received + count)

    def committed(self, verdict: Verdict) -> None:
        """A block has its verdict."""
        with self._guard:
            before = self._counts
            self._counts = replace(
                before,
                stored=before.stored + verdict.stored,
                duplicates=before.duplicates + verdict.duplicates,
                quarantined=before.quarantined + verdict.quarantined,
                blocks=before.blocks + 1,
            )

    def counts(self) -> Counts:
        """As they are now."""
        with self._guard:
            return self._counts

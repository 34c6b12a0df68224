"""Send measurements one by one, as in 2013: `Zibrato(interval=0)`."""

from __future__ import annotations

import time
from typing import Any

from .accumulate import accumulator
from .identity import Identity
from .metric_type import SET
from .publisher import Publisher
from .wire import Batch, Measurement, pack_batch, pack_measurement, topic


class UnbatchedValues:
    """Send each value by itself. `add` can be called from any thread; it neither blocks nor raises."""

    __slots__ = ("_publisher", "_topic", "identity")

    def __init__(self, identity: Identity, publisher: Publisher) -> None:
        self.identity = identity
        self._publisher = publisher
        self._topic = topic(identity.level)

    def add(self, value: Any) -> None:
        self._publisher.submit(self._topic, unbatched_message(self.identity, value))


def unbatched_message(metric: Identity, value: Any) -> bytes:
    """Return a message as in 2013, or a batch of one value for sets and for metrics with tags, outcome or rate."""
    epoch = int(time.time())
    if metric.type != SET and not (metric.tags or metric.outcome or metric.rate < 1):
        return pack_measurement(
            Measurement(metric.level, metric.type, metric.name, value, epoch, metric.source)
        ).encode()
    gathered = accumulator(metric)
    gathered.add(value)
    summary = gathered.collect()
    assert summary is not None
    return pack_batch(
        Batch(metric, epoch, 1, summary.sum, min=summary.min, max=summary.max, last=summary.last, sketch=summary.sketch)
    )

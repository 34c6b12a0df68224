"""Measurements sent one by one, as in 2013: `Zibrato(interval=0)`."""

from __future__ import annotations

import time
from typing import Any

from .accumulate import accumulator
from .naming import SET, Identity
from .publisher import Publisher
from .wire import Batch, Single, pack_batch, pack_single, topic


class SingleValues:
    """Hands each value to the sender. `add` may be called from anywhere; neither blocks nor raises."""

    __slots__ = ("_publisher", "_topic", "identity")

    def __init__(self, identity: Identity, publisher: Publisher) -> None:
        self.identity = identity
        self._publisher = publisher
        self._topic = topic(identity.level)

    def add(self, value: Any) -> None:
        """Send one value."""
        self._publisher.submit(self._topic, message(self.identity, value))


def message(who: Identity, value: Any) -> bytes:
    """As in 2013 where that can say it; sets, and what has tags, an outcome or a rate, go as a batch of one."""
    epoch = int(time.time())
    if who.type != SET and not (who.tags or who.outcome or who.rate < 1):
        return pack_single(Single(who.level, who.type, who.name, value, epoch, who.source)).encode()
    gathered = accumulator(who)
    gathered.add(value)
    summary = gathered.cut()
    assert summary is not None
    return pack_batch(
        Batch(who, epoch, 1, summary.sum, min=summary.min, max=summary.max, last=summary.last, sketch=summary.sketch)
    )

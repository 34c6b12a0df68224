"""The backend `zarkov`: every batch becomes one event of type `metric`, through the ingester's acknowledged door.

An event's id is made of publisher, level and sequence number, so that sending again stores nothing twice.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ingest.client import AcknowledgedClient
from ingest.exceptions import DeliveryError
from ingest.metrics.backend.base import Backend
from ingest.metrics.exceptions import BackendError, PostponedError
from ingest.metrics.naming import SET
from ingest.metrics.wire import Batch, Single

EVENT_TYPE = "metric"
MOST_INT = 2**63


class ZarkovBackend(Backend):
    """Into the event pipeline of this Zarkov."""

    name = "zarkov"
    help = "into Zarkov's own event pipeline, from where they are aggregated"
    parcels_at_once = 5_000
    span_s = 1  # single measurements of one second become one event

    @classmethod
    def add_arguments(cls, parser: argparse._ArgumentGroup) -> None:
        """Where the ingester is."""
        parser.add_argument("--ingester", metavar="ADDRESS", help="its acknowledged socket (default: the configured)")

    def connect(self) -> None:
        """Prepare a client; the ingester need not be there."""
        if not self.options.own.get("ingester"):
            raise BackendError("ingester: the address of an acknowledged socket is wanted")
        self._client = AcknowledgedClient(self.options.own["ingester"], timeout_s=5.0, attempts=1)
        self._publisher = secrets.token_hex(8)  # for what has none
        self._sequence = 0
        self._events: list[dict[str, Any]] = []

    def take(self, item: Single | Batch) -> None:
        """A batch is an event as it is; single measurements are brought together by second."""
        if isinstance(item, Batch) and item.publisher:
            self._events.append(event_of(item))
        else:
            self.gathered.add(item)

    def pack(self) -> list[Any]:
        """Events, in the order of arrival."""
        for identity, epoch, found in self.gathered.cut():
            distinct = identity.type == SET
            sketch = found.distinct.to_document() if distinct else found.sketch.to_document()
            self._sequence += 1
            batch = Batch(
                identity, epoch, found.count, found.distinct.estimate if distinct else found.sum,
                min=found.min, max=found.max, last=found.last,
                sketch=sketch if distinct or found.min is not None else None,
            )  # fmt: skip
            self._events.append(event_of(batch) | {"id": f"metric:{self._publisher}:single:{self._sequence}"})
        events, self._events = self._events, []
        return events

    def deliver(self, parcels: Sequence[Any]) -> int:
        """Through the acknowledged door: accepted means on the ingester's disk."""
        try:
            receipt = self._client.send(parcels)
        except DeliveryError as error:
            raise PostponedError(str(error)) from None
        self.refused += len(receipt.rejected)
        return len(parcels)

    def end(self) -> None:
        """Close the client."""
        self._client.close()


def event_of(batch: Batch) -> dict[str, Any]:
    """The event of one batch. Context: who, what, where. Extra: the numbers, and where they stand in the sequence."""
    who = batch.identity
    context: dict[str, Any] = {"kind": who.type, "name": who.name, "source": who.source, "level": who.level}
    if who.tags:
        context["tags"] = dict(who.tags)
    if who.outcome:
        context["outcome"] = who.outcome
    extra: dict[str, Any] = {"count": batch.count, "sum": _storable(batch.sum)}
    if batch.min is not None:
        extra |= {name: _storable(getattr(batch, name)) for name in ("min", "max", "last")}
    if batch.sketch is not None:
        extra["sketch"] = dict(batch.sketch)
    if who.rate != 1:
        extra["rate"] = who.rate
    event = {
        "timestamp": datetime.fromtimestamp(batch.epoch, UTC), "type": EVENT_TYPE, "context": context, "extra": extra,
    }  # fmt: skip
    if batch.publisher:
        extra |= {"publisher": batch.publisher, "sequence": batch.sequence, "before": batch.before}
        event["id"] = f"metric:{batch.publisher}:{who.level}:{batch.sequence}"
    return event


def _storable(value: float | int) -> float | int:
    return float(value) if isinstance(value, int) and abs(value) >= MOST_INT else value

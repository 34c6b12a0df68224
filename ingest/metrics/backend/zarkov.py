"""The backend `zarkov`: every batch becomes one event of type `metric`, through the ingester's acknowledged door.

An event's id is made of publisher, level and sequence number, so that sending again stores nothing twice.
"""

from __future__ import annotations

import argparse
import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import bson

from ingest.client import AcknowledgedClient
from ingest.exceptions import DeliveryError
from ingest.metrics.backend.base import Backend
from ingest.metrics.exceptions import BackendError, PostponedError
from ingest.metrics.naming import SET
from ingest.metrics.wire import Batch, Single

EVENT_TYPE = "metric"
TIMEOUT_S = 5.0
log = logging.getLogger(__name__)


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
        self._client: AcknowledgedClient | None = None
        self._publisher = secrets.token_hex(8)  # for what has none
        self._sequence = 0
        self._events: list[bytes] = []

    def take(self, item: Single | Batch) -> None:
        """A batch is an event as it is; single measurements are brought together by second."""
        if isinstance(item, Batch) and item.publisher:
            self._keep(event_of(item))
        else:
            self.gathered.add(item)

    def _keep(self, event: dict[str, Any]) -> None:
        """Encode at once: an event that cannot be is refused for itself, and none holds up the others."""
        try:
            self._events.append(bson.encode(event))
        except (bson.errors.BSONError, ValueError, TypeError, OverflowError) as error:
            self.refused += 1
            log.warning("an event cannot be stored and is refused: %s: %.300r", error, event)

    def held(self) -> int:
        """Events wait one by one."""
        return len(self.gathered) + len(self._events)

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
            self._keep(event_of(batch) | {"id": f"metric:{self._publisher}:single:{self._sequence}"})
        events, self._events = self._events, []
        return events

    def deliver(self, parcels: Sequence[Any]) -> int:
        """Through the acknowledged door: accepted means on the ingester's disk."""
        try:
            receipt = self._connected().send(parcels)
        except DeliveryError as error:
            raise PostponedError(str(error)) from None
        self.refused += len(receipt.rejected)
        return len(parcels)

    def end(self) -> None:
        """Close the client."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> AcknowledgedClient:
        """A client of the ingester where it is now."""
        wanted = self.options.own["ingester"]
        try:
            address = wanted() if callable(wanted) else wanted
            keys = self.options.own.get("ingester_keys", lambda: None)()
        except Exception as error:  # noqa: BLE001 - asked again: the ingester may not have said yet where it is
            raise PostponedError(f"it is not known where the ingester is, or how to reach it: {error}") from None
        if self._client is None or self._client.addr != address:
            self.end()
            self._client = AcknowledgedClient(address, timeout_s=TIMEOUT_S, attempts=1, keys=keys)
        return self._client


def event_of(batch: Batch) -> dict[str, Any]:
    """The event of one batch. Context: who, what, where. Extra: the numbers, and where they stand in the sequence."""
    who = batch.identity
    context: dict[str, Any] = {"kind": who.type, "name": who.name, "source": who.source, "level": who.level}
    if who.tags:
        context["tags"] = dict(who.tags)
    if who.outcome:
        context["outcome"] = who.outcome
    extra: dict[str, Any] = {"count": batch.count, "sum": batch.sum}
    if batch.min is not None:
        extra |= {name: getattr(batch, name) for name in ("min", "max", "last")}
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

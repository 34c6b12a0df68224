"""The backend `zarkov`: send each batch as one event of type `metric` to the ingester's acknowledged receiver.

An event's id is made of publisher, level and sequence number, so that sending it again stores nothing twice.
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
from ingest.metrics.backend.interface import Backend
from ingest.metrics.exceptions import BackendError, PostponedError
from ingest.metrics.metric_type import SET
from ingest.metrics.wire import Batch, Measurement

EVENT_TYPE = "metric"
TIMEOUT_S = 5.0
log = logging.getLogger(__name__)


class ZarkovBackend(Backend):
    name = "zarkov"
    help = "into Zarkov's own event pipeline, from where they are aggregated"
    payloads_at_once = 5_000
    span_s = 1  # single measurements of one second become one event

    @classmethod
    def add_arguments(cls, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument("--ingester", metavar="ADDRESS", help="its acknowledged socket (default: the configured)")

    def connect(self) -> None:
        """Prepare; the first delivery connects to the ingester. Raise `BackendError` without its address."""
        if not self.options.own.get("ingester"):
            raise BackendError("ingester: the address of an acknowledged socket is required")
        self._client: AcknowledgedClient | None = None
        self._publisher = secrets.token_hex(8)  # for single measurements, which name none
        self._sequence = 0
        self._events: list[bytes] = []

    def gather(self, item: Measurement | Batch) -> None:
        """Keep a batch as one event; merge single measurements by metric and second."""
        if isinstance(item, Batch) and item.publisher:
            self._keep(event_of(item))
        else:
            self.gathered.add(item)

    def _keep(self, event: dict[str, Any]) -> None:
        """Encode at once, so that an event that cannot be stored is refused alone and does not hold up the others."""
        try:
            self._events.append(bson.encode(event))
        except (bson.errors.BSONError, ValueError, TypeError, OverflowError) as error:
            self.refused += 1
            log.warning("event cannot be stored and is refused error=%s event=%.300r", error, event)

    def unpacked_count(self) -> int:
        return len(self.gathered) + len(self._events)

    def pack(self) -> list[Any]:
        """Return events: batches in the order of arrival, then merged single measurements."""
        for identity, epoch, found in self.gathered.collect():
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

    def deliver(self, payloads: Sequence[Any]) -> int:
        """Send to the acknowledged receiver. Accepted means on the ingester's disk."""
        try:
            receipt = self._connected().send(payloads)
        except DeliveryError as error:
            raise PostponedError(str(error)) from None
        self.refused += receipt.rejected_count
        return len(payloads)

    def end(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> AcknowledgedClient:
        """Return a client for the ingester's current address. Raise `PostponedError` if that is unknown."""
        wanted = self.options.own["ingester"]
        try:
            address = wanted() if callable(wanted) else wanted
            keys = self.options.own.get("ingester_keys", lambda: None)()
        except Exception as error:  # noqa: BLE001 - retried: the ingester may not have published its address yet
            raise PostponedError(f"the ingester's address or keys are not known yet: {error}") from None
        if self._client is None or self._client.addr != address:
            self.end()
            self._client = AcknowledgedClient(address, timeout_s=TIMEOUT_S, attempts=1, keys=keys)
        return self._client


def event_of(batch: Batch) -> dict[str, Any]:
    """Return the event of one batch: `context` identifies the metric, `extra` holds the numbers and the sequence."""
    metric = batch.identity
    context: dict[str, Any] = {"kind": metric.type, "name": metric.name, "source": metric.source, "level": metric.level}
    if metric.tags:
        context["tags"] = dict(metric.tags)
    if metric.outcome:
        context["outcome"] = metric.outcome
    extra: dict[str, Any] = {"count": batch.count, "sum": batch.sum}
    if batch.min is not None:
        extra |= {name: getattr(batch, name) for name in ("min", "max", "last")}
    if batch.sketch is not None:
        extra["sketch"] = dict(batch.sketch)
    if metric.rate != 1:
        extra["rate"] = metric.rate
    event = {
        "timestamp": datetime.fromtimestamp(batch.epoch, UTC), "type": EVENT_TYPE, "context": context, "extra": extra,
    }  # fmt: skip
    if batch.publisher:
        extra |= {"publisher": batch.publisher, "sequence": batch.sequence, "before": batch.before}
        event["id"] = f"metric:{batch.publisher}:{metric.level}:{batch.sequence}"
    return event

"""The backend `librato`: gauges over HTTP, `POST /v1/metrics`, as in 2013.

Counters are summed by source, name and flush. Single timers and gauges are sent as they are, with their own time;
batches are sent as count, sum, min and max. The interface is Librato's metrics API of 2013, which other services have
adopted.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from ingest.metrics.backend.interface import Backend
from ingest.metrics.exceptions import BackendError, PostponedError
from ingest.metrics.identity import NOT_SPECIFIED, Identity
from ingest.metrics.metric_type import COUNTER, SET
from ingest.metrics.wire import Batch, Measurement

API = "https://metrics-api.librato.com/v1/metrics"
TIMEOUT_S = 10.0
TOKEN_VARIABLE = "LIBRATO_API_TOKEN"
log = logging.getLogger(__name__)
_REJECTED = re.compile(r"[^A-Za-z0-9.:_-]")
NAME_LENGTH = 255
REFUSALS = {400, 404, 413, 422}  # status codes that a retry of the same gauges would get again


class LibratoBackend(Backend):
    name = "librato"
    help = "to Librato's metrics API, as gauges"
    payloads_at_once = 300

    @classmethod
    def add_arguments(cls, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument("--username", default="", help="login, as in 2013")
        parser.add_argument("--apitoken", default="", help=f"its token (better in the variable {TOKEN_VARIABLE})")
        parser.add_argument("--url", default=API, help="address of the metrics API")

    def connect(self) -> None:
        """Check for credentials; each delivery opens a connection. Raise `BackendError`."""
        own = self.options.own
        token = own.get("apitoken") or os.environ.get(TOKEN_VARIABLE, "")
        if not own.get("username") or not token:
            raise BackendError(f"username and apitoken are required (--username NAME, {TOKEN_VARIABLE}=TOKEN)")
        self._login = "Basic " + base64.b64encode(f"{own['username']}:{token}".encode()).decode()
        self._gauges: list[Any] = []

    def gather(self, item: Measurement | Batch) -> None:
        """Merge counters and sets; keep everything else as it is."""
        kind = item.identity.type if isinstance(item, Batch) else item.type
        if kind in {COUNTER, SET}:
            self.gathered.add(item)
        elif isinstance(item, Batch):
            gauge = _named(item.identity) | {"measure_time": item.epoch, "count": item.count, "sum": item.sum}
            self._gauges.append(gauge | {"min": item.min, "max": item.max})
        else:
            named = _named(Identity(item.level, item.type, item.name, item.source))
            self._gauges.append(named | {"measure_time": item.epoch, "value": item.value})

    def unpacked_count(self) -> int:
        return len(self.gathered) + len(self._gauges)

    def pack(self) -> list[Any]:
        """Return single gauges, then counters and sets with the time of the flush."""
        now = int(time.time())
        sums: dict[tuple[str, str | None], dict[str, Any]] = {}
        for identity, _, found in self.gathered.collect():
            value = found.distinct.estimate if identity.type == SET else found.sum / identity.rate
            gauge = _named(identity)
            same = sums.setdefault((gauge["name"], gauge.get("source")), gauge | {"measure_time": now, "value": 0})
            same["value"] += value
        gauges, self._gauges = self._gauges, []
        return gauges + list(sums.values())

    def deliver(self, payloads: Sequence[Any]) -> int:
        """Send one request. Status 2xx means accepted, one of `REFUSALS` that a gauge is refused for good."""
        request = urllib.request.Request(
            self.options.own["url"],
            data=json.dumps({"gauges": list(payloads)}).encode(),
            headers={"Content-Type": "application/json", "Authorization": self._login},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            with error:
                body = error.read(500).decode(errors="replace")
            if error.code not in REFUSALS:
                raise PostponedError(f"{self.options.own['url']} answered {error.code}: {body}") from None
            return self._refused(payloads, body)
        except OSError as error:
            raise PostponedError(f"{self.options.own['url']} cannot be reached: {error}") from None
        return len(payloads)

    def _refused(self, payloads: Sequence[Any], body: str) -> int:
        """Send refused gauges in halves, so that a bad one does not hold up the others."""
        if len(payloads) > 1:
            half = len(payloads) // 2
            return self.deliver(payloads[:half])
        self.refused += 1
        log.warning("gauge refused for good gauge=%s answer=%s", payloads[0], body)
        return 1


def _named(metric: Identity) -> dict[str, Any]:
    parts = [metric.name, *(f"{key}_{value}" for key, value in metric.tags), *(["error"] if metric.outcome else [])]
    named = {"name": _REJECTED.sub(":", ".".join(parts))[:NAME_LENGTH]}
    return (
        named if metric.source == NOT_SPECIFIED else named | {"source": _REJECTED.sub(":", metric.source)[:NAME_LENGTH]}
    )

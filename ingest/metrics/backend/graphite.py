"""The backend `graphite`: lines `path value seconds` over TCP, carbon's plaintext protocol.

Protocol: https://graphite.readthedocs.io/en/stable/feeding-carbon.html. Carbon sends no answer, but closes its end of a
connection once it has read everything; lines leave the queue only then.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from ingest.metrics.backend.interface import Backend
from ingest.metrics.backend.rollup import RollupEntry
from ingest.metrics.backend.statsd import send_stream
from ingest.metrics.backend.text_protocol import path, path_prefix
from ingest.metrics.identity import Identity
from ingest.metrics.metric_type import COUNTER, SET
from ingest.number_text import plain_decimal, whole_number

PORT = 2003
MOST_PATHS = 100_000  # paths whose type is remembered


class GraphiteBackend(Backend):
    name = "graphite"
    help = "to graphite's carbon, in the plaintext protocol"
    payloads_at_once = 2_000

    @classmethod
    def add_arguments(cls, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="carbon's host")
        parser.add_argument(
            "--port", type=whole_number, default=PORT, help=f"carbon's port for plain text (default {PORT})"
        )
        parser.add_argument(
            "--prefix", type=path_prefix, default="zibrato.", help="put before each path (default zibrato.)"
        )

    def connect(self) -> None:
        self._types: dict[str, str] = {}

    def pack(self) -> list[Any]:
        prefix, now = self.options.own.get("prefix", ""), int(time.time())
        payloads: list[Any] = []
        for name, (kind, found) in self._by_path(prefix).items():
            payloads += [
                f"{name}.{key} {plain_decimal(value)} {now}\n".encode() for key, value in values_of(kind, found).items()
            ]
        return payloads

    def _by_path(self, prefix: str) -> dict[str, tuple[str, RollupEntry]]:
        """Merge metrics of the same path and type, which differ in level or rate; see `_path` for types."""
        found: dict[str, tuple[str, RollupEntry]] = {}
        for identity, _, gathered in self.gathered.collect():
            _, whole = found.setdefault(self._path(identity, prefix), (identity.type, RollupEntry()))
            whole.merge_scaled(gathered, identity.rate)
        return found

    def _path(self, metric: Identity, prefix: str) -> str:
        """Return the path. The first type on a path keeps it while this process runs; other types are appended."""
        name = path(metric, prefix)
        if len(self._types) < MOST_PATHS:
            self._types.setdefault(name, metric.type)
        return name if self._types.get(name, metric.type) == metric.type else f"{name}.{metric.type.lower()}"

    def deliver(self, payloads: Sequence[Any]) -> int:
        """Send over one connection. Payloads are accepted once carbon has read it to the end."""
        own = self.options.own
        return send_stream("carbon", own["host"], own["port"], payloads)


def values_of(kind: str, found: RollupEntry) -> dict[str, float | int]:
    """Return the values to send for one metric and flush, by the last part of their path."""
    if kind == SET:
        return {"count": found.count, "distinct": found.distinct.estimate}
    if kind == COUNTER or found.min is None or found.max is None or found.last is None:
        return {"count": found.count, "sum": found.sum}
    p50, p95, p99 = found.sketch.quantiles([0.5, 0.95, 0.99]) if found.sketch.count else [found.last] * 3
    mean = min(max(found.sum / found.count, found.min), found.max)
    return {
        "count": found.count, "mean": mean, "min": found.min, "max": found.max, "last": found.last,
        "p50": p50, "p95": p95, "p99": p99,
    }  # fmt: skip

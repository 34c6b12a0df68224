"""The backend `graphite`: lines `path value seconds` over TCP, carbon's plaintext protocol.

Protocol: https://graphite.readthedocs.io/en/stable/feeding-carbon.html. Carbon answers nothing; it closes its end of a
connection once it has read all of it, and that is waited for before lines leave the queue.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Sequence
from typing import Any

from ingest.metrics.backend.base import Backend
from ingest.metrics.backend.rollup import Gathered
from ingest.metrics.backend.statsd import path
from ingest.metrics.exceptions import PostponedError
from ingest.metrics.naming import COUNTER, SET, Identity

PORT = 2003
TIMEOUT_S = 5.0
MOST_PATHS = 100_000  # of which the type is remembered


class GraphiteBackend(Backend):
    """To carbon."""

    name = "graphite"
    help = "to graphite's carbon, in the plaintext protocol"
    parcels_at_once = 2_000

    @classmethod
    def add_arguments(cls, parser: argparse._ArgumentGroup) -> None:
        """Where it is."""
        parser.add_argument("--host", default="127.0.0.1", help="carbon's host")
        parser.add_argument("--port", type=int, default=PORT, help=f"carbon's port for plain text (default {PORT})")
        parser.add_argument("--prefix", default="zibrato.", help="put before each path (default zibrato.)")

    def connect(self) -> None:
        """Nothing is connected before there is something to say."""
        self._types: dict[str, str] = {}

    def pack(self) -> list[Any]:
        """Lines, stamped with the time of the flush."""
        prefix, now = self.options.own.get("prefix", ""), int(time.time())
        parcels: list[Any] = []
        for name, (kind, found) in self._by_path(prefix).items():
            parcels += [f"{name}.{key} {value!r} {now}\n".encode() for key, value in figures(kind, found).items()]
        return parcels

    def _by_path(self, prefix: str) -> dict[str, tuple[str, Gathered]]:
        """What has one path and type is one metric there, whatever its level and rate; see `_path` for types."""
        found: dict[str, tuple[str, Gathered]] = {}
        for identity, _, gathered in self.gathered.cut():
            _, whole = found.setdefault(self._path(identity, prefix), (identity.type, Gathered()))
            whole.absorb(gathered, identity.rate)
        return found

    def _path(self, who: Identity, prefix: str) -> str:
        """The type that first had a path keeps it, others have theirs behind it, as long as this process runs."""
        name = path(who, prefix)
        if len(self._types) < MOST_PATHS:
            self._types.setdefault(name, who.type)
        return name if self._types.get(name, who.type) == who.type else f"{name}.{who.type.lower()}"

    def deliver(self, parcels: Sequence[Any]) -> int:
        """One connection per delivery; accepted once carbon has read it to its end."""
        own = self.options.own
        try:
            with socket.create_connection((own["host"], own["port"]), TIMEOUT_S) as line:
                line.sendall(b"".join(parcels))
                line.shutdown(socket.SHUT_WR)
                while line.recv(4096):
                    pass
        except OSError as error:
            raise PostponedError(f"carbon at {own['host']}:{own['port']} takes nothing: {error}") from None
        return len(parcels)


def figures(kind: str, found: Gathered) -> dict[str, float | int]:
    """What is kept of one metric and flush."""
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

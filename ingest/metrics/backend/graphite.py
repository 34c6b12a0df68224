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

    def pack(self) -> list[Any]:
        """Lines, stamped with the time of the flush."""
        prefix, now = self.options.own.get("prefix", ""), int(time.time())
        parcels: list[Any] = []
        for identity, _, found in self.gathered.cut():
            name = path(identity, prefix)
            parcels += [f"{name}.{key} {value!r} {now}\n".encode() for key, value in figures(identity, found).items()]
        return parcels

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


def figures(who: Identity, found: Gathered) -> dict[str, float | int]:
    """What is kept of one metric and flush."""
    count = found.count if who.rate == 1 else found.count / who.rate
    if who.type == SET:
        return {"count": count, "distinct": found.distinct.estimate}
    if who.type == COUNTER or found.min is None or found.max is None or found.last is None:
        return {"count": count, "sum": found.sum if who.rate == 1 else found.sum / who.rate}
    p50, p95, p99 = found.sketch.quantiles([0.5, 0.95, 0.99]) if found.sketch.count else [found.last] * 3
    return {
        "count": count, "mean": found.sum / found.count, "min": found.min, "max": found.max, "last": found.last,
        "p50": p50, "p95": p95, "p99": p99,
    }  # fmt: skip

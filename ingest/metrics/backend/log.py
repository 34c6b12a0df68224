"""The backend `log`: log one line per metric and flush, to see what arrives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ingest.metrics.backend.interface import Backend
from ingest.metrics.backend.rollup import RollupEntry
from ingest.metrics.identity import Identity
from ingest.metrics.metric_type import COUNTER, SET
from ingest.number_text import plain_decimal

log = logging.getLogger("zarkov.metrics")


class LogBackend(Backend):
    name = "log"
    help = "to the log of this process, one line per metric and flush"

    def pack(self) -> list[Any]:
        return sorted(line(identity, gathered) for identity, _, gathered in self.gathered.collect())

    def deliver(self, payloads: Sequence[Any]) -> int:
        for text in payloads:
            log.info("%s", text)
        return len(payloads)


def line(metric: Identity, found: RollupEntry) -> str:
    """Return `level type name source count=... ...`."""
    parts = [metric.level, metric.type, metric.name, metric.source]
    parts += [f"{key}={value}" for key, value in metric.tags]
    parts += ["outcome=error"] if metric.outcome else []
    parts.append(f"count={found.count}")
    if metric.type == SET:
        parts.append(f"distinct={found.distinct.estimate}")
    elif metric.type == COUNTER or found.min is None or found.max is None:
        parts.append(f"sum={plain_decimal(found.sum, 6)}")
    else:
        p50, p95, p99 = found.sketch.quantiles([0.5, 0.95, 0.99]) if found.sketch.count else (0.0, 0.0, 0.0)
        values = {"mean": found.sum / found.count, "min": found.min, "max": found.max}
        values |= {"p50": p50, "p95": p95, "p99": p99}
        parts += [f"{key}={plain_decimal(value, 6)}" for key, value in values.items()]
    return " ".join(parts)

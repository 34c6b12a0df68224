"""Measuring code: `Zibrato` in the measured program, a broker, and backends that take what was measured elsewhere.

The publishing side (`zibrato` and what it imports) needs pyzmq and the standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.metrics.zibrato import MetricError, RequestTimer, Zibrato, measure_tasks

__all__ = ["MetricError", "RequestTimer", "Zibrato", "measure_tasks"]


def __getattr__(name: str) -> Any:
    """The names of the publishing side, loaded when they are asked for: backends and the broker do without them."""
    if name in __all__:
        from ingest.metrics import zibrato

        return getattr(zibrato, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

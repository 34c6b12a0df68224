"""Measure code: `Zibrato` in the measured program, a broker, and backends that deliver the measurements elsewhere.

The publishing side (`zibrato` and what it imports) needs only pyzmq and the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exceptions import MetricError
    from .request_timer import RequestTimer
    from .task_timer import measure_tasks
    from .zibrato import Zibrato

__all__ = ["MetricError", "RequestTimer", "Zibrato", "measure_tasks"]
_MODULES = {
    "MetricError": "exceptions",
    "RequestTimer": "request_timer",
    "Zibrato": "zibrato",
    "measure_tasks": "task_timer",
}


def __getattr__(name: str) -> Any:
    """Load the names of the publishing side on first use, since backends and the broker do without them."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

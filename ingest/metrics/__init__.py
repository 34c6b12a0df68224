"""Measuring code: `Zibrato` in the measured program, a broker, and backends that take what was measured elsewhere.

The publishing side (`zibrato` and what it imports) needs pyzmq and the standard library only.
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
_HOMES = {
    "MetricError": "exceptions",
    "RequestTimer": "request_timer",
    "Zibrato": "zibrato",
    "measure_tasks": "task_timer",
}


def __getattr__(name: str) -> Any:
    """The names of the publishing side, loaded when they are asked for: backends and the broker do without them."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

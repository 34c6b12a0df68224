"""Measuring code: `Zibrato` in the measured program, a broker, and backends that take what was measured elsewhere.

The publishing side (`zibrato` and what it imports) needs pyzmq and the standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.metrics.zibrato import Zibrato

__all__ = ["Zibrato"]


def __getattr__(name: str) -> Any:
    """`Zibrato`, loaded when it is asked for: backends and the broker do without it."""
    if name == "Zibrato":
        from ingest.metrics.zibrato import Zibrato

        return Zibrato
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

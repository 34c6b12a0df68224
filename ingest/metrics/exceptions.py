"""The errors of measuring; measured code never sees one, only the code that sets measuring up.

They are separate from those of `ingest`, because the package `zibrato` of the client wheel is these modules alone.
"""

from __future__ import annotations

from typing import Any


class MetricsError(Exception):
    """Base of every error raised here; its text is one line for a person and says what to do."""

    code = "metrics_error"
    retryable = False

    def __init_subclass__(cls, **traits: Any) -> None:
        """Set `code` and the other attributes that a class statement names."""
        for name, value in traits.items():
            setattr(cls, name, value)


class MetricError(MetricsError, ValueError, code="bad_metric"):
    """An invalid level, name, value or option; raised where a decorator is applied or an object is created."""


class WireError(MetricError, code="bad_metric_message"):
    """Not a valid metrics message."""


class PostponedError(MetricsError, code="postponed", retryable=True):
    """A backend's target system did not accept what was sent. It is kept and sent again."""


class BackendError(MetricsError, code="bad_backend"):
    """An unknown backend, or an invalid option of one."""

"""The errors of measuring; measured code never sees one, only the code that sets measuring up.

They are separate from those of `ingest`, because the package `zibrato` of the client wheel is these modules alone.
"""

from __future__ import annotations


class MetricsError(Exception):
    """Base of every error raised here; its text is one line for a person and says what to do."""

    code = "metrics_error"
    retryable = False


class MetricError(MetricsError, ValueError):
    """An invalid level, name, value or option; raised where a decorator is applied or an object is created."""

    code = "bad_metric"


class WireError(MetricError):
    """Not a valid metrics message."""

    code = "bad_metric_message"


class PostponedError(MetricsError):
    """A backend's target system did not accept what was sent. It is kept and sent again."""

    code = "postponed"
    retryable = True


class BackendError(MetricsError):
    """An unknown backend, or an invalid option of one."""

    code = "bad_backend"

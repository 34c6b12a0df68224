"""The errors of measuring; measured code never sees one, only the code that sets measuring up.

They stand apart from those of `ingest`, as the package `zibrato` of the client wheel is these modules alone.
"""

from __future__ import annotations

from typing import Any


class MetricsError(Exception):
    """Base of every error raised here; its text is one line for a person and says what to do."""

    code = "metrics_error"
    retryable = False

    def to_document(self) -> dict[str, Any]:
        """Return what crosses a wire."""
        return {"code": self.code, "message": str(self)}


class MetricError(MetricsError, ValueError):
    """A level, name, value or option that cannot be; raised where a decorator is applied or an object is made."""

    code = "bad_metric"


class WireError(MetricError):
    """A message that is not a valid metrics message."""

    code = "bad_metric_message"


class PostponedError(MetricsError):
    """The other side of a backend did not accept what was sent; it is kept and sent again."""

    code = "postponed"
    retryable = True


class BackendError(MetricsError):
    """A backend that does not exist, or an option that it does not have."""

    code = "bad_backend"

"""The errors of measuring. None of them is ever raised by code that is being measured, only where it is set up."""

from __future__ import annotations

from ingest.exceptions import IngestError


class MetricError(IngestError, ValueError):
    """A level, name, value or option that cannot be; raised where a decorator is applied or an object is made."""

    code = "bad_metric"


class WireError(MetricError):
    """A message that is none of ours."""

    code = "bad_metric_message"


class PostponedError(IngestError):
    """The other side of a backend did not accept what was sent; it is kept, and sent again."""

    code = "postponed"
    retryable = True


class BackendError(IngestError):
    """A backend that is not there, or an option that it does not have."""

    code = "bad_backend"

"""Errors of the web room. Each carries the HTTP status and the stable code of the one JSON error shape."""

from __future__ import annotations

from typing import Any


class WebError(Exception):
    """Base of what a request is answered with: `{"error": {"code", "message", "details"}}`."""

    code = "error"
    status = 400
    retryable = False
    retry_after_s: int | None = None  # sent as Retry-After when it is not None

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.details))

    def body(self) -> dict[str, Any]:
        """The JSON document of the answer."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}


def _rebuild(kind: type[WebError], message: str, details: dict[str, Any]) -> WebError:
    return kind(message, **details)


class BadRequestError(WebError):
    """The request cannot be understood; the message names the parameter and what is allowed."""

    code = "bad_request"


class NotLoggedInError(WebError):
    """There is neither a login nor a token."""

    code = "not_authenticated"
    status = 401


class ForbiddenError(WebError):
    """Who asks is known, and may not."""

    code = "forbidden"
    status = 403


class NotFoundError(WebError):
    """There is no such thing; the message lists the known names where they are few."""

    code = "not_found"
    status = 404


class TooLargeError(WebError):
    """The request or its answer is larger than what is handled at once."""

    code = "too_large"
    status = 413


class ConflictError(WebError):
    """It cannot be done in the state that things are in."""

    code = "conflict"
    status = 409


class BrokenError(WebError):
    """The server's own fault."""

    code = "internal_error"
    status = 500


class UnavailableError(WebError):
    """A part that the answer needs does not answer itself: try again later."""

    code = "unavailable"
    status = 503
    retryable = True
    retry_after_s = 2


class BusyError(UnavailableError):
    """The journal is full: the ingester takes no more until events have been committed."""

    code = "busy"
    retry_after_s = 5

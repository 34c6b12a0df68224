"""Errors of the web package. Each has an HTTP status and the stable code of the JSON error shape."""

from __future__ import annotations

from typing import Any


class WebError(Exception):
    """Base of all errors sent to clients, as `{"error": {"code", "message", "details"}}`."""

    code = "error"
    status = 400
    retryable = False
    retry_after_s: int | None = None  # sent as Retry-After; None = no such header

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.details))

    def body(self) -> dict[str, Any]:
        """Return the JSON document of the answer."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}

    def headers(self) -> dict[str, str]:
        """Return the headers that the answer needs: `Retry-After` or `WWW-Authenticate`."""
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s is not None else {}
        return headers | ({"WWW-Authenticate": "Token"} if self.status == 401 else {})


def _rebuild(kind: type[WebError], message: str, details: dict[str, Any]) -> WebError:
    return kind(message, **details)


class BadRequestError(WebError):
    """The request is not valid; the message names the parameter and what is allowed."""

    code = "bad_request"


class NotLoggedInError(WebError):
    """The request has no login and no valid token."""

    code = "not_authenticated"
    status = 401


class ForbiddenError(WebError):
    """The login or token lacks the right to do this."""

    code = "forbidden"
    status = 403


class NotFoundError(WebError):
    """The named thing does not exist; the message lists the known names if they are few."""

    code = "not_found"
    status = 404


class TooLargeError(WebError):
    """The request or its answer is too large to be handled at once."""

    code = "too_large"
    status = 413


class ConflictError(WebError):
    """The request cannot be carried out in the present state."""

    code = "conflict"
    status = 409


class InternalError(WebError):
    """The server has a bug."""

    code = "internal_error"
    status = 500


class UnavailableError(WebError):
    """A part of the system that the answer needs does not respond: try again later."""

    code = "unavailable"
    status = 503
    retryable = True
    retry_after_s = 2


class IngestBusyError(UnavailableError):
    """The journal is full: the ingester accepts no more until events have been committed."""

    code = "busy"
    retry_after_s = 5

"""Errors of the web package. Each has an HTTP status and the stable code of the JSON error shape."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import APIException


class WebError(APIException):
    """Base of all errors sent to clients, as `{"error": {"code", "message", "details"}}`.

    They are errors of the REST framework, because its browsable pages ask the permissions of a view again for each
    form that they may show, and expect no other errors then.
    """

    code = "error"
    status = status_code = 400
    retryable = False
    retry_after_s: int | None = None  # sent as Retry-After; None = no such header

    def __init_subclass__(cls, **traits: Any) -> None:
        """Set `code` and the other attributes that a class statement names."""
        for name, value in traits.items():
            setattr(cls, name, value)
        cls.status_code = cls.status  # as the REST framework calls it

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, self.code)
        self.message = message
        self.details = details

    def body(self) -> dict[str, Any]:
        """Return the JSON document of the answer."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}

    def headers(self) -> dict[str, str]:
        """Return the headers that the answer needs: `Retry-After` or `WWW-Authenticate`."""
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s is not None else {}
        return headers | ({"WWW-Authenticate": "Token"} if self.status == 401 else {})


class BadRequestError(WebError, code="bad_request"):
    """The request is not valid; the message names the parameter and what is allowed."""


class NotLoggedInError(WebError, code="not_authenticated", status=401):
    """The request has no login and no valid token."""


class ForbiddenError(WebError, code="forbidden", status=403):
    """The login or token lacks the right to do this."""


class NotFoundError(WebError, code="not_found", status=404):
    """The named thing does not exist; the message lists the known names if they are few."""


class TooLargeError(WebError, code="too_large", status=413):
    """The request or its answer is too large to be handled at once."""


class ConflictError(WebError, code="conflict", status=409):
    """The request cannot be carried out in the present state."""


class InternalError(WebError, code="internal_error", status=500):
    """The server has a bug."""


class UnavailableError(WebError, code="unavailable", status=503, retryable=True, retry_after_s=2):
    """A part of the system that the answer needs does not respond: try again later."""


class IngestBusyError(UnavailableError, code="busy", retry_after_s=5):
    """The journal is full: the ingester accepts no more until events have been committed."""

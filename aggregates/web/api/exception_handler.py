"""Turn all exceptions of the API into JSON errors of one shape."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.http import Http404
from pymongo.errors import PyMongoError
from rest_framework import exceptions as rest
from rest_framework.response import Response

from aggregates.exceptions import (
    AggregateError,
    EventsGoneError,
    FullRunDueError,
    LeaseHeldError,
    LeaseLostError,
    OutputTakenError,
    RouterAbsentError,
    RunStateError,
    UnknownAggregateError,
)
from aggregates.web.exceptions import BadRequestError, ConflictError, NotFoundError, UnavailableError, WebError
from aggregates.web.mongo import to_web_error

_OF_SERVICE: tuple[tuple[type[AggregateError], type[WebError]], ...] = (
    (UnknownAggregateError, NotFoundError),
    (RouterAbsentError, UnavailableError),
    (LeaseHeldError, ConflictError),
    (LeaseLostError, ConflictError),
    (OutputTakenError, ConflictError),
    (RunStateError, ConflictError),
    (EventsGoneError, ConflictError),
    (FullRunDueError, ConflictError),
)
_CODES = {
    400: "bad_request",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    429: "throttled",
    500: "internal_error",
}


def error_body(code: str, message: str, details: Any = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details or {}}}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response for an exception of a view; None leaves it to Django, which answers 500."""
    if isinstance(error, BadRequest) and not isinstance(error, WebError):
        error = BadRequestError(str(error))
    elif isinstance(error, Http404):
        error = rest.NotFound()
    elif isinstance(error, PermissionDenied):
        error = rest.PermissionDenied()
    elif isinstance(error, PyMongoError):
        error = to_web_error(error)
    elif isinstance(error, AggregateError):
        error = from_service_error(error)
    if isinstance(error, WebError):
        return Response(error.body(), status=error.status, headers=error.headers())
    if isinstance(error, ValidationError):
        error = rest.ValidationError(error.message_dict if hasattr(error, "error_dict") else error.messages)
    if not isinstance(error, rest.APIException):
        return None
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait) + 1)  # type: ignore[attr-defined]
    code = _CODES.get(error.status_code, "error")
    if isinstance(error, rest.ValidationError):
        return Response(error_body("invalid", _sentence(error.detail), error.detail), status=400, headers=headers)
    return Response(error_body(code, str(error.detail)), status=error.status_code, headers=headers)


def from_service_error(error: AggregateError) -> WebError:
    """Return the `WebError` for a service's error, with the same code and text."""
    kind = next((kind for cause, kind in _OF_SERVICE if isinstance(error, cause)), BadRequestError)
    made = kind(str(error))
    made.code = error.code
    return made


def _sentence(detail: Any) -> str:
    """Return the first validation errors as one line of fields and messages."""
    if isinstance(detail, dict):
        return "; ".join(
            f"{name}: {_sentence(item)}" if name != "non_field_errors" else _sentence(item)
            for name, item in list(detail.items())[:5]
        )
    if isinstance(detail, list | tuple):
        return " ".join(_sentence(item) for item in detail[:5])
    return str(detail)

"""Build JSON responses and error responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse

from aggregates.web.exceptions import WebError
from aggregates.web.json_encoding import to_json
from ingest import __version__


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return `content` as JSON. Answers depend on time and on rights, so shared caches must not keep them."""
    response = HttpResponse(to_json(content), content_type="application/json", status=status)
    response["Cache-Control"] = "private, no-cache"
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def error_response(error: WebError) -> HttpResponse:
    """Return the JSON response for an error, with `Retry-After` or `WWW-Authenticate` where required."""
    response = json_response(error.body(), error.status)
    if error.retry_after_s is not None:
        response["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        response["WWW-Authenticate"] = "Token"
    return response


def version(request: HttpRequest) -> dict[str, str]:
    """Give every template `zarkov_version` (a context processor)."""
    return {"zarkov_version": __version__}

"""Build JSON responses and error responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse

from aggregates.web.exceptions import WebError
from aggregates.web.json_encoding import to_json
from ingest import __version__


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return `content` as JSON that shared caches must not keep, because it depends on time and on rights."""
    response = HttpResponse(to_json(content), content_type="application/json", status=status)
    response["Cache-Control"] = "private, no-cache"
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def error_response(error: WebError) -> HttpResponse:
    """Return the JSON response for an error."""
    return json_response(error.body(), error.status, error.headers())


def version(request: HttpRequest) -> dict[str, str]:
    """Provide `zarkov_version` to every template (a context processor)."""
    return {"zarkov_version": __version__}

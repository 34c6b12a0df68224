"""Build JSON responses and error responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from aggregates.web.exceptions import WebError
from aggregates.web.json_encoding import to_json
from aggregates.web.mongo import translate_errors
from ingest import __version__

View = Callable[..., HttpResponseBase]


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return `content` as JSON that shared caches must not keep, because it depends on time and on rights."""
    return json_text_response(to_json(content), status, headers)


def json_text_response(text: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return what is JSON already in the same way."""
    response = HttpResponse(text, content_type="application/json", status=status)
    response["Cache-Control"] = "private, no-cache"
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def error_response(error: WebError) -> HttpResponse:
    return json_response(error.body(), error.status, error.headers())


def json_errors(view: View) -> View:
    """Wrap a view that checks rights itself: answer errors as JSON."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            with translate_errors():
                return view(request, *args, **kwargs)
        except WebError as error:
            return error_response(error)

    return answer


def version(request: HttpRequest) -> dict[str, str]:
    """Provide `zarkov_version` to every template (a context processor)."""
    return {"zarkov_version": __version__}

"""What all pages share: who may see them, and how errors look to a person."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from aggregates.web.auth.access import rights_of
from aggregates.web.exceptions import BrokenError, NotFoundError, NotLoggedInError, WebError
from aggregates.web.mongo import answering
from aggregates.web.response import error_response

View = Callable[..., HttpResponseBase]


def page(view: View) -> View:
    """A page for those who may read everything; others are sent to the login, errors are a page."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            rights_of(request).require_unlimited()
            with answering():
                return view(request, *args, **kwargs)
        except NotLoggedInError:
            return redirect_to_login(request.get_full_path())
        except Http404 as error:
            return error_page(request, NotFoundError(str(error)))
        except WebError as error:
            return error_page(request, error)

    return answer


def stream(view: View) -> View:
    """A stream of a page; errors are JSON."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            with answering():
                return view(request, *args, **kwargs)
        except WebError as error:
            return error_response(error)

    return answer


def error_page(request: HttpRequest, error: WebError, *, bare: bool = False) -> HttpResponse:
    """An error as a person reads it; `bare` leaves out the site's navigation."""
    headings = {400: "That cannot be shown", 403: "Not allowed", 404: "Not found", 503: "Not available now"}
    context = {"heading": headings.get(error.status, "Something went wrong"), "message": error.message, "bare": bare}
    return render(request, "zarkov/error.html", context, status=error.status)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404 for addresses that lead nowhere: JSON for programs, a page for people."""
    error = NotFoundError(f"there is nothing at {request.path[:200]}")
    return error_response(error) if _is_program(request) else error_page(request, error)


def broken(request: HttpRequest) -> HttpResponse:
    """500 when the code has a fault; what it is stands in the log."""
    error = BrokenError("an error in the server; what it is stands in the log")
    return error_response(error) if _is_program(request) else error_page(request, error, bare=True)


def _is_program(request: HttpRequest) -> bool:
    return request.path.startswith(("/api/", "/live/", "/q")) or "text/html" not in request.META.get("HTTP_ACCEPT", "")

"""Wrap the views of pages: check rights, and turn errors into pages."""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render

from aggregates.web.auth.access import rights_of
from aggregates.web.body_error import BrokenBodyError, UnservedBodyError
from aggregates.web.body_limit import FORM_TYPES
from aggregates.web.exceptions import (
    BadRequestError,
    ForbiddenError,
    InternalError,
    NotFoundError,
    NotLoggedInError,
    TooLargeError,
    WebError,
)
from aggregates.web.mongo import translate_errors
from aggregates.web.response import View, error_response

log = logging.getLogger(__name__)


def page_view(view: View) -> View:
    """Wrap a page view: require the right to read everything, redirect to the login, show errors as pages."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            rights_of(request).require_unlimited()
            with translate_errors():
                return view(request, *args, **kwargs)
        except NotLoggedInError:
            return redirect_to_login(request.get_full_path())
        except Http404 as error:
            return error_page(request, NotFoundError(str(error)))
        except WebError as error:
            return error_page(request, error)

    return answer


def error_page(request: HttpRequest, error: WebError, *, bare: bool = False) -> HttpResponse:
    """Return an error as a page; `bare` leaves out the site's navigation."""
    headings = {400: "That cannot be shown", 403: "Not allowed", 404: "Not found", 503: "Not available now"}
    context = {"heading": headings.get(error.status, "Something went wrong"), "message": error.message, "bare": bare}
    return render(request, "zarkov/error.html", context, status=error.status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400, or what a body that cannot be read deserves; only errors that are for people say what was wrong."""
    error: WebError
    if isinstance(exception, WebError):
        error = exception
    elif isinstance(exception, RequestDataTooBig):
        kind = "form" if request.content_type in FORM_TYPES else "body"
        error = TooLargeError(f"the {kind} is too large: at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes")
    else:
        told = isinstance(exception, BadRequest | MultiPartParserError)
        error = BadRequestError(str(exception) if told else "the request is not valid")
    answer = error_response(error) if _is_program(request) else error_page(request, error, bare=True)
    if isinstance(exception, BrokenBodyError | UnservedBodyError | MultiPartParserError | RequestDataTooBig):
        path = request.path_info[:200].encode("unicode_escape").decode()
        log.info("body refused path=%s reason=%s", path, exception)
        answer._has_been_logged = True  # type: ignore[attr-defined]  # else Django writes it again, with a traceback
    return answer


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 for a form of another origin, which can also be a proxy that Zarkov does not know."""
    cause = "its address must be in the setting public_url"
    if "null" in reason:  # Django's reason then quotes the header: browsers send `Origin: null` without a referrer
        cause += ", and it must not add Referrer-Policy: no-referrer, which makes browsers hide where a form comes from"
    error = ForbiddenError(
        f"this form was refused: {reason.rstrip('.')[:200]}. Go back, reload the page and send it again; if that does "
        f"not help and this site is behind a proxy, {cause}"
    )
    return error_response(error) if _is_program(request) else error_page(request, error, bare=True)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404 for unknown addresses: JSON for programs, a page for people."""
    error = NotFoundError(f"there is nothing at {request.path[:200]}")
    return error_response(error) if _is_program(request) else error_page(request, error)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 for an unhandled exception; the log has the details."""
    error = InternalError("the server failed on this request; its log has the details")
    return error_response(error) if _is_program(request) else error_page(request, error, bare=True)


def _is_program(request: HttpRequest) -> bool:
    accepted = request.META.get("HTTP_ACCEPT", "")
    return request.path_info.startswith(("/api/", "/live/", "/q")) or "text/html" not in accepted

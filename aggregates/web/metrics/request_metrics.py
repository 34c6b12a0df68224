"""Counts and times the requests of all web processes of this machine.

gunicorn's parent names a folder in `PROMETHEUS_MULTIPROC_DIR` (see `zarkov_site.server`): each worker keeps its numbers
there, and whichever is asked adds them up. Without it the numbers are this process's own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

disable_created_metrics()  # type: ignore[no-untyped-call]
_own = CollectorRegistry()
REQUESTS = Counter(
    "zarkov_http_requests", "Requests answered, by address pattern", ["method", "route", "status"], registry=_own
)
DURATION = Histogram(
    "zarkov_http_request_seconds",
    "Time until the answer began, by address pattern",
    ["route"],
    buckets=SECONDS,
    registry=_own,
)


class RequestMetrics:
    """Middleware: the first of all, so that it sees what the others answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        began = time.perf_counter()
        response = self._get_response(request)
        route = _route(request)
        method = request.method if request.method in METHODS else "other"
        REQUESTS.labels(method, route, response.status_code).inc()
        DURATION.labels(route).observe(time.perf_counter() - began)
        return response


def _route(request: HttpRequest) -> str:
    """The pattern of the address, never the address itself: there are only so many of them."""
    match = request.resolver_match
    if match is not None:
        return "/" + match.route.lstrip("/^")
    return "static" if request.path.startswith("/static/") else "unknown"


def registry() -> CollectorRegistry:
    """A registry with the requests of all web processes, to which the caller may add."""
    made = CollectorRegistry(auto_describe=False)
    if FOLDER_VARIABLE in os.environ:
        MultiProcessCollector(made)  # type: ignore[no-untyped-call]
    else:
        made.register(REQUESTS)
        made.register(DURATION)
    return made

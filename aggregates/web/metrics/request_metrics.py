"""Count and time the requests of all web processes on this machine.

gunicorn's parent sets `PROMETHEUS_MULTIPROC_DIR` (see `zarkov_site.server`): each worker keeps its numbers in that
folder, and the one that is scraped adds them up. Without the variable, the numbers cover this process only.
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
    "Time until the answer started, by address pattern",
    ["route"],
    buckets=SECONDS,
    registry=_own,
)


class RequestMetrics:
    """Middleware that must be first, so that it sees the answers of all others."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        response = self._get_response(request)
        route = _route(request)
        method = request.method if request.method in METHODS else "other"
        REQUESTS.labels(method, route, response.status_code).inc()
        DURATION.labels(route).observe(time.perf_counter() - started)
        return response


def _route(request: HttpRequest) -> str:
    """Return the route pattern, never the path itself, so that the number of label values stays bounded."""
    match = request.resolver_match
    if match is not None:
        return "/" + match.route.lstrip("/^")
    return "static" if request.path_info.startswith("/static/") else "unknown"


def registry() -> CollectorRegistry:
    """Return a new registry with the requests of all web processes; the caller can add collectors."""
    made = CollectorRegistry(auto_describe=False)
    if FOLDER_VARIABLE in os.environ:
        MultiProcessCollector(made)  # type: ignore[no-untyped-call]
    else:
        made.register(REQUESTS)
        made.register(DURATION)
    return made

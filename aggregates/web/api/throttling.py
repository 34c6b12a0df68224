"""Limit the rate of requests per token, login or address, by scope."""

from __future__ import annotations

import time
from typing import Any

from django.core.cache import cache
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle

from aggregates.web.auth.client_address import counted_address

PERIODS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ScopeThrottle(BaseThrottle):
    """Limit requests by the view's `throttle_scope`, in windows that start at whole minutes; changes are `operate`.

    There is one counter per client and scope, so that a high rate costs no more than a low one. The counters are in
    Django's cache: by default each web process has its own.
    """

    THROTTLE_RATES: Any = api_settings.DEFAULT_THROTTLE_RATES

    def __init__(self) -> None:
        self._left_s: float | None = None

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request. Return True if it is within the rate."""
        scope = getattr(view, "throttle_scope", "api")
        if scope == "api" and request.method not in {"GET", "HEAD", "OPTIONS"}:
            scope = "operate"
        limit, period_s = read_rate(self.THROTTLE_RATES[scope])
        window, into_s = divmod(time.time(), period_s)
        key = f"throttle.{scope}.{_client(request)}.{window:.0f}"
        cache.add(key, 0, 2 * period_s)
        try:
            count = cache.incr(key)
        except ValueError:  # evicted from a full cache in the meantime: no reason to refuse
            return True
        self._left_s = period_s - into_s
        return count <= limit

    def wait(self) -> float | None:
        """Return the seconds until the next window."""
        return self._left_s


def read_rate(text: str) -> tuple[int, int]:
    """Return requests and seconds of a rate such as `300/min`."""
    count, _, period = text.partition("/")
    return int(count), PERIODS_S[period[0]]


def _client(request: Request) -> str:
    """Return the client to count: the token, else the user, else the address."""
    if request.auth is not None:
        return f"token-{request.auth.pk[:24]}"
    if request.user is not None and request.user.is_authenticated:
        return f"user-{request.user.pk}"
    return f"address-{counted_address(request._request)}"

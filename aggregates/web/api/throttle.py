"""How many requests one token, login or address may make in a minute, by what they are for."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle


class ScopeThrottle(SimpleRateThrottle):
    """Counts by the view's `throttle_scope`, in each web process; changes count as `operate`."""

    def __init__(self) -> None:
        """The rate is known once the view is."""

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether this one is still within the rate."""
        scope = getattr(view, "throttle_scope", "api")
        if scope == "api" and request.method not in {"GET", "HEAD", "OPTIONS"}:
            scope = "operate"
        self.scope = scope
        self.rate = self.THROTTLE_RATES[scope]
        self.num_requests, self.duration = self.parse_rate(self.rate)
        return bool(super().allow_request(request, view))

    def get_cache_key(self, request: Request, view: Any) -> str:
        """Who is counted: the token, else the user, else the address."""
        if request.auth is not None:
            who = f"token-{request.auth.pk[:24]}"
        elif request.user is not None and request.user.is_authenticated:
            who = f"user-{request.user.pk}"
        else:
            who = f"address-{self.get_ident(request)}"
        return str(self.cache_format % {"scope": self.scope, "ident": who})

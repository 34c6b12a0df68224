"""Time the requests of a Django site. Add two lines to its settings:

    MIDDLEWARE = ["zibrato.RequestTimer", ...]      # ingest.metrics.RequestTimer in a checkout of Zarkov
    ZIBRATO = {"source": "shop"}                    # optional: arguments of Zibrato(), or a Zibrato object

This module imports Django only when Django creates the middleware.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .zibrato import Zibrato

MOST_VIEWS = 1_000  # distinct names; further ones become `request`


class RequestTimer:
    """Django middleware that times each request as `request.<view>`, in seconds, tagged with method and status class.

    A status class is 2xx, 4xx, ... A request without a view is named `request`. A streaming response is timed until it
    starts, not until its last part is sent.
    """

    level = "info"

    def __init__(self, get_response: Callable[[Any], Any], zibrato: Zibrato | None = None) -> None:
        self._get_response = get_response
        self._zibrato = _from_settings() if zibrato is None else zibrato
        self._names: set[str] = set()

    def __call__(self, request: Any) -> Any:
        """Time the request. Errors are seen in the status, since Django turns them into responses."""
        start = time.perf_counter()
        response = self._get_response(request)
        spent = time.perf_counter() - start
        tags = {"method": request.method or "", "status": f"{response.status_code // 100}xx"}
        self._zibrato.send(level=self.level, mtype="Timer", name=self._name(request), value=spent, tags=tags)
        return response

    def _name(self, request: Any) -> str:
        match = getattr(request, "resolver_match", None)
        name = f"request.{match.view_name or match.func.__name__}" if match is not None else "request"
        if len(self._names) < MOST_VIEWS:
            self._names.add(name)
        return name if name in self._names else "request"


def _from_settings() -> Zibrato:
    from django.conf import settings

    from .exceptions import MetricError
    from .zibrato import Zibrato

    found = getattr(settings, "ZIBRATO", {})
    if isinstance(found, Zibrato):
        return found
    if not isinstance(found, Mapping):
        raise MetricError(f"ZIBRATO: {found!r} is not allowed: use arguments of Zibrato() such as {{'source': 'shop'}}")
    try:
        return Zibrato(**found)
    except TypeError as error:
        raise MetricError(f"ZIBRATO: {error}") from None

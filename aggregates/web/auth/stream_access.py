"""Check whether an open stream may continue: a logout, a deleted token or a disabled user ends its rights."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from django.contrib.auth import get_user_model
from django.db import DatabaseError, connections
from django.http import HttpRequest

from aggregates.web.auth.access import Rights, rights_of
from aggregates.web.exceptions import WebError

CACHED_S = 2.0  # rights are cached this long for all streams of the same token or login
MAX_CACHED = 1_000

_cached: dict[tuple[str, str], tuple[float, Rights | None]] = {}


def may_continue(request: HttpRequest, needed: Callable[[Rights], None]) -> Callable[[], bool]:
    """Return a function that returns True if the request of an open stream would still be allowed.

    `needed` raises `WebError` if rights are insufficient. An anonymous stream may always continue, since
    `anonymous_read` cannot change while the process runs. The function closes Django's database connections, so that
    open streams hold none.
    """
    header = request.META.get("HTTP_AUTHORIZATION", "")
    user = getattr(request, "user", None)
    if not header and not getattr(user, "is_authenticated", False):
        return lambda: True
    client = (
        ("token", sha256(header.encode("utf-8", "surrogateescape")).hexdigest())
        if header
        else ("session", str(request.session.session_key))
    )

    def allowed() -> bool:
        rights = _rights(client, request)
        if rights is None:
            return False
        try:
            needed(rights)
        except WebError:
            return False
        return True

    return allowed


def clear_cache() -> None:
    """Clear the cached rights. For tests."""
    _cached.clear()


def _rights(client: tuple[str, str], request: HttpRequest) -> Rights | None:
    now = time.monotonic()
    known = _cached.get(client)
    if known is not None and now < known[0]:
        return known[1]
    try:
        rights = _look_up(client[0], request)
    except (WebError, DatabaseError):
        rights = None
    finally:
        connections.close_all()
    if len(_cached) >= MAX_CACHED:
        _cached.clear()
    _cached[client] = now + CACHED_S, rights
    return rights


def _look_up(kind: str, request: HttpRequest) -> Rights | None:
    """Return the current rights from the database; None if the login has ended."""
    again = HttpRequest()
    again.META = request.META
    if kind == "session":
        session: Any = request.session
        if not session.exists(session.session_key):
            return None
        login: Any = request.user
        user: Any = get_user_model().objects.filter(pk=login.pk, is_active=True).first()
        if user is None:
            return None
        again.user = user
    return rights_of(again)

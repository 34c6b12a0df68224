"""Whether an open stream may go on: rights can end while it is open, by a logout, a deleted token, a disabled user."""

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

KNOWN_S = 2.0  # how long one look at the database serves all streams of the same token or login
MOST_KNOWN = 1_000

_known: dict[tuple[str, str], tuple[float, Rights | None]] = {}


def may_continue(request: HttpRequest, needed: Callable[[Rights], None]) -> Callable[[], bool]:
    """A question for later: would the request behind an open stream still be let in?

    `needed` raises for rights that are not enough. Whoever is nobody may go on: `anonymous_read` ends with the process.
    Asking gives Django's database connection back at once, so that open streams hold none.
    """
    header = request.META.get("HTTP_AUTHORIZATION", "")
    user = getattr(request, "user", None)
    if not header and not getattr(user, "is_authenticated", False):
        return _yes
    who = (
        ("token", sha256(header.encode("utf-8", "surrogateescape")).hexdigest())
        if header
        else ("session", str(request.session.session_key))
    )

    def allowed() -> bool:
        rights = _rights(who, request)
        if rights is None:
            return False
        try:
            needed(rights)
        except WebError:
            return False
        return True

    return allowed


def forget() -> None:
    """Look every right up anew. For tests."""
    _known.clear()


def _yes() -> bool:
    return True


def _rights(who: tuple[str, str], request: HttpRequest) -> Rights | None:
    now = time.monotonic()
    known = _known.get(who)
    if known is not None and now < known[0]:
        return known[1]
    try:
        rights = _look_up(who[0], request)
    except (WebError, DatabaseError):
        rights = None
    finally:
        connections.close_all()
    if len(_known) >= MOST_KNOWN:
        _known.clear()
    _known[who] = now + KNOWN_S, rights
    return rights


def _look_up(kind: str, request: HttpRequest) -> Rights | None:
    """Rights as the database has them now; None when the login is over."""
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

"""Check the access token of a request."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from django.http import HttpRequest
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from aggregates.web.exceptions import NotLoggedInError

CACHED_S = 2.0  # a valid token is cached this long, and can still send events if it is deleted meanwhile
MAX_CACHED = 1_000

_cached: dict[bytes, tuple[float, tuple[Any, Any]]] = {}  # digest of the header: (expiry, (user, token))


def check_token(request: HttpRequest) -> tuple[Any, Any] | None:
    """Return user and token, None if the request has no token. Raise `NotLoggedInError` if the token is not valid."""
    try:
        pair: tuple[Any, Any] | None = TokenAuthentication().authenticate(request)
    except (AuthenticationFailed, UnicodeDecodeError):
        raise NotLoggedInError("the token is unknown, expired or revoked") from None
    return pair


def check_token_cached(request: HttpRequest) -> tuple[Any, Any] | None:
    """Check a token like `check_token`, but cache a valid one for `CACHED_S`, or until its expiry if that is sooner."""
    header = request.META.get("HTTP_AUTHORIZATION", "")
    digest = hashlib.sha256(header.encode("utf-8", "surrogateescape")).digest()
    now = time.monotonic()
    known = _cached.get(digest)
    if known is not None and now < known[0]:
        return known[1]
    pair = check_token(request)
    if pair is not None:
        if len(_cached) >= MAX_CACHED:
            _cached.clear()
        _cached[digest] = now + _lifetime_s(pair[1]), pair
    return pair


def _lifetime_s(token: Any) -> float:
    if token.expiry is None:
        return CACHED_S
    return min(CACHED_S, float(token.expiry.timestamp() - time.time()))


def clear_cache() -> None:
    """Remove all cached tokens. For tests."""
    _cached.clear()

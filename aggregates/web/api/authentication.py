"""Authenticate API requests by token or login, and describe both in the OpenAPI document."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.auth import TokenAuthentication
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request

from aggregates.web.auth import access
from aggregates.web.exceptions import NotLoggedInError

REMEMBERED_S = 2.0  # a valid token is cached this long, and can still send events if it is deleted meanwhile
MOST_REMEMBERED = 1_000

_remembered: dict[bytes, tuple[float, tuple[Any, Any]]] = {}  # digest of the header: (expiry, (user, token))


class RightsTokenAuthentication(TokenAuthentication):  # type: ignore[misc]
    """Authenticate by knox token, and store its rights on the request, so that the token is looked up once.

    For POST requests to a view with `remembers_tokens`, a token is looked up only once in `REMEMBERED_S`, because
    producers send many times a second. Only valid tokens are cached, never beyond their expiry.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return user and token, or None if the header has no token."""
        view = request.parser_context.get("view")
        remembers = request.method == "POST" and getattr(view, "remembers_tokens", False)
        pair = self._remember(request) if remembers else self._look_up(request)
        if pair is not None:
            request._request.zarkov_rights = access.of_token(pair[1])  # type: ignore[attr-defined]
        return pair

    def _look_up(self, request: Request) -> tuple[Any, Any] | None:
        """Look the token up in the database. Raises `AuthenticationFailed` or `NotLoggedInError`."""
        try:
            pair: tuple[Any, Any] | None = super().authenticate(request)
        except UnicodeDecodeError:
            raise NotLoggedInError("the token is not text") from None
        return pair

    def _remember(self, request: Request) -> tuple[Any, Any] | None:
        """Do the same, with results cached for up to `REMEMBERED_S`."""
        header = request.META.get("HTTP_AUTHORIZATION", "")
        digest = hashlib.sha256(header.encode("utf-8", "surrogateescape")).digest()
        now = time.monotonic()
        known = _remembered.get(digest)
        if known is not None and now < known[0]:
            return known[1]
        pair = self._look_up(request)
        if pair is not None:
            if len(_remembered) >= MOST_REMEMBERED:
                _remembered.clear()
            _remembered[digest] = now + _cache_s(pair[1]), pair
        return pair


def _cache_s(token: Any) -> float:
    """Return the time in seconds for which a token may be cached."""
    if token.expiry is None:
        return REMEMBERED_S
    return min(REMEMBERED_S, float(token.expiry.timestamp() - time.time()))


def forget() -> None:
    """Clear the cached tokens. For tests."""
    _remembered.clear()


class LoginAuthentication(SessionAuthentication):
    """Authenticate by Django's login, with a CSRF check for changes. A token takes precedence over a login."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return the logged-in user, or None."""
        if request.META.get("HTTP_AUTHORIZATION"):
            return None
        pair: tuple[Any, Any] | None = super().authenticate(request)
        return pair


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describe `RightsTokenAuthentication` in the OpenAPI document."""

    target_class = RightsTokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Authorization: Token ...`, made with `manage.py token`.",
        }


class LoginScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describe `LoginAuthentication` in the OpenAPI document."""

    target_class = LoginAuthentication
    name = "login"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}

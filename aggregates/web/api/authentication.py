"""Who asks: a token in the header, or a login; and what the OpenAPI document says about both."""

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

REMEMBERED_S = 2.0  # how long a token that was right may still send events after it has been deleted
MOST_REMEMBERED = 1_000

_remembered: dict[bytes, tuple[float, tuple[Any, Any]]] = {}  # digest of the header: until when, user and token


class RightsTokenAuthentication(TokenAuthentication):  # type: ignore[misc]
    """knox's tokens. Their rights are left on the request, so that the token is looked up once.

    A view with `remembers_tokens` has its POST requests checked against the database once in `REMEMBERED_S` per token:
    producers send many times a second. Only tokens that were right are remembered, and no longer than they last.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """User and token, or None when there is no token in the header."""
        view = request.parser_context.get("view")
        remembers = request.method == "POST" and getattr(view, "remembers_tokens", False)
        pair = self._remember(request) if remembers else self._look_up(request)
        if pair is not None:
            request._request.zarkov_rights = access.of_token(pair[1])  # type: ignore[attr-defined]
        return pair

    def _look_up(self, request: Request) -> tuple[Any, Any] | None:
        """What the database says. Raises `AuthenticationFailed` or `NotLoggedInError`."""
        try:
            pair: tuple[Any, Any] | None = super().authenticate(request)
        except UnicodeDecodeError:
            raise NotLoggedInError("the token is not text") from None
        return pair

    def _remember(self, request: Request) -> tuple[Any, Any] | None:
        """The same, perhaps as it was `REMEMBERED_S` ago."""
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
            _remembered[digest] = now + _lasts_s(pair[1]), pair
        return pair


def _lasts_s(token: Any) -> float:
    """How long a token may be remembered."""
    if token.expiry is None:
        return REMEMBERED_S
    return min(REMEMBERED_S, float(token.expiry.timestamp() - time.time()))


def forget() -> None:
    """Look every token up anew. For tests."""
    _remembered.clear()


class LoginAuthentication(SessionAuthentication):
    """Django's login, with the CSRF check for whatever changes something. A request with a token is not a login."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """The user who is logged in, or None."""
        if request.META.get("HTTP_AUTHORIZATION"):
            return None
        pair: tuple[Any, Any] | None = super().authenticate(request)
        return pair


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """For the OpenAPI document."""

    target_class = RightsTokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """As OpenAPI writes it."""
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Authorization: Token ...`, made with `manage.py token`.",
        }


class LoginScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """For the OpenAPI document."""

    target_class = LoginAuthentication
    name = "login"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """As OpenAPI writes it."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}

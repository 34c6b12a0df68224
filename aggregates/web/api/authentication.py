"""Authenticate API requests by token or login, and describe both in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import QueryDict
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.auth import TokenAuthentication
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request

from aggregates.web.auth import access
from aggregates.web.auth.token_check import check_token, check_token_cached


class RightsTokenAuthentication(TokenAuthentication):  # type: ignore[misc]
    """Authenticate by knox token, and store its rights on the request, so that the token is looked up once.

    For POST requests to a view with `cache_tokens`, tokens are cached, because producers send many times a second.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return user and token, or None if the header has no token. Raise `NotLoggedInError`."""
        view = request.parser_context.get("view")
        cached = request.method == "POST" and getattr(view, "cache_tokens", False)
        pair = (check_token_cached if cached else check_token)(request)
        if pair is not None:
            request._request.zarkov_rights = access.rights_of_token(pair[1])  # type: ignore[attr-defined]
        return pair


class LoginAuthentication(SessionAuthentication):
    """Authenticate by Django's login, with a CSRF check for changes. A token takes precedence over a login."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return the logged-in user, or None."""
        if request.META.get("HTTP_AUTHORIZATION"):
            return None
        pair: tuple[Any, Any] | None = super().authenticate(request)
        return pair

    def enforce_csrf(self, request: Request) -> None:
        """Take the CSRF token from the header only. Raise `PermissionDenied`.

        A body of the API is no form, whatever its type says, and is not read before the request may do something.
        """
        plain: Any = request._request
        plain._post = QueryDict()
        super().enforce_csrf(plain)


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
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}

"""Who asks: a token in the header, or a login; and what the OpenAPI document says about both."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.auth import TokenAuthentication
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request

from aggregates.web import access
from aggregates.web.exceptions import NotLoggedInError


class RightsTokenAuthentication(TokenAuthentication):  # type: ignore[misc]
    """knox's tokens. Their rights are left on the request, so that the token is looked up once."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """User and token, or None when there is no token in the header."""
        try:
            pair: tuple[Any, Any] | None = super().authenticate(request)
        except UnicodeDecodeError:
            raise NotLoggedInError("the token is not text") from None
        if pair is not None:
            request._request.zarkov_rights = access.of_token(pair[1])  # type: ignore[attr-defined]
        return pair


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

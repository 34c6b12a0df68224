"""Add security headers to responses: Content-Security-Policy, framing, CORS."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

_POLICY = (
    "default-src 'self'; script-src 'self'; style-src {style}; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors {ancestors}"
)
_FOREIGN_PAGES = ("/admin/", "/api/")  # pages of Django and the REST framework, which use inline styles
_CORS_PATHS = ("/api/", "/q", "/qs", "/qr", "/collections")
_CORS_HEADERS = "Authorization, Content-Type, If-None-Match, Last-Event-ID"
_CORS_EXPOSED = "ETag, Retry-After, X-Zarkov-Through, X-Zarkov-Complete-Through"


class ContentSecurityPolicy:
    """Add the policy to every answer. A view that may be framed names the sites in `response.frame_ancestors`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        ancestors = getattr(response, "frame_ancestors", None)
        foreign = request.path.startswith(_FOREIGN_PAGES)
        response["Content-Security-Policy"] = _POLICY.format(
            style="'self' 'unsafe-inline'" if foreign else "'self'", ancestors=ancestors or "'none'"
        )
        response["Referrer-Policy"] = "same-origin"
        response["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
        return response


class CrossOrigin:
    """Allow scripts of the origins in `settings.CORS_ORIGINS` to use the API with a token, never with cookies.

    "*" in the list allows every origin. See the Fetch standard, section 3.2 (CORS protocol).
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request; allowed preflights do not reach a view."""
        origin = request.META.get("HTTP_ORIGIN")
        if origin is None or not request.path.startswith(_CORS_PATHS):
            return self._get_response(request)
        allowed = "*" in settings.CORS_ORIGINS or origin in settings.CORS_ORIGINS
        preflight = request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META
        response = HttpResponse(status=204) if preflight and allowed else self._get_response(request)
        if allowed:
            response["Access-Control-Allow-Origin"] = origin
            response["Access-Control-Expose-Headers"] = _CORS_EXPOSED
            if preflight:
                response["Access-Control-Allow-Methods"] = "GET, HEAD, POST, PATCH, PUT, DELETE"
                response["Access-Control-Allow-Headers"] = _CORS_HEADERS
                response["Access-Control-Max-Age"] = "600"
        vary = response.get("Vary")
        response["Vary"] = f"{vary}, Origin" if vary else "Origin"
        return response

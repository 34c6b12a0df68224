"""Check the host of requests and the rows that they choose in the admin, and give responses their headers.

These are security, CORS and the scope of cookies; answers to HEAD have no body.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.http.request import split_domain_port, validate_host
from django.middleware.common import CommonMiddleware
from django.urls import get_resolver

_POLICY = (
    "default-src 'self'; script-src 'self'; style-src {style}; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors {ancestors}"
)
_IPV6_HOST = re.compile(r"\[([0-9a-fA-F:.]+)(?:%[A-Za-z0-9_.%-]+)?\](:[0-9]+)?\Z")
_PAST_PREFIX = "_direct"  # ends the names of cookies for requests past the path of public_url
_PROBES = ("/healthz", "/readyz")  # say nothing that a page of another site could not know
_FOREIGN_PAGES = ("/admin/", "/api/")  # pages of Django and the REST framework, which use inline styles
_CORS_PATHS = ("/api/", "/q", "/qs", "/qr", "/collections")
_CORS_HEADERS = "Authorization, Content-Type, If-None-Match, Last-Event-ID"
_CORS_EXPOSED = "ETag, Retry-After, X-Zarkov-Through, X-Zarkov-Complete-Through"

log = logging.getLogger(__name__)


class HeadWithoutBody:
    """Send no body in answers to HEAD, only the length that it would have (RFC 9110, section 9.3.2)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if request.method == "HEAD":
            if isinstance(response, StreamingHttpResponse):
                response.streaming_content = ()
            elif isinstance(response, HttpResponse):
                response.setdefault("Content-Length", str(len(response.content)))
                response.content = b""
        return response


class SlashAtEnd(CommonMiddleware):
    """Redirect to addresses that end with a slash, in a way that keeps the method and the body.

    Many clients repeat a POST as GET after 301, so that events would be lost behind a status of 200. They repeat it
    as it was after 308, or fail (RFC 9110, section 15.4.9).
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = super().__call__(request)  # type: ignore[assignment]
        if response.status_code == 301 and request.method not in ("GET", "HEAD"):
            response.status_code = 308
        return response


class CookieScope:
    """Send cookies only where they came from: below the path of this Zarkov, and over TLS if the request used it.

    So a login by plain HTTP on loopback works beside one through a proxy. Where that one is below a path, cookies of
    requests that are not have other names: a browser would send them there too, and the old could hide the new.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        path = request.META.get("SCRIPT_NAME", "").rstrip("/") or "/"
        public = settings.ZARKOV.public
        past_prefix = path == "/" and public is not None and public.prefix != ""
        if past_prefix:
            for name in _cookie_names():
                request.COOKIES.pop(name, None)
                if (value := request.COOKIES.pop(f"{name}{_PAST_PREFIX}", None)) is not None:
                    request.COOKIES[name] = value
        response = self._get_response(request)
        for name, cookie in list(response.cookies.items()):
            if cookie["path"] == "/":
                cookie["path"] = path
            if request.is_secure():
                cookie["secure"] = True
            if past_prefix and name in _cookie_names():
                cookie.set(f"{name}{_PAST_PREFIX}", cookie.value, cookie.coded_value)
                response.cookies[cookie.key] = response.cookies.pop(name)
        return response


def _cookie_names() -> tuple[str, str]:
    return settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME


class KnownHost:
    """Refuse a `Host` that is not ours: a page whose name was made to point here (DNS rebinding) must read nothing.

    Health probes know this machine by its bare address, so they are answered under any host; metrics are, too, if the
    request has a token, which such a page does not know.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer 400 with the host and the setting, and log one line."""
        _use_allowed_form(request)
        host = unknown_host(request)
        if host is None:
            return self._get_response(request)
        if _is_open_to_any_host(request):
            request.META["HTTP_HOST"] = "localhost"  # what follows asks for the host, too
            return self._get_response(request)
        domain, _ = split_domain_port(host)
        shown = host[:100].encode("unicode_escape").decode()
        log.warning("request refused host=%s path=%s", shown, request.path_info[:200].encode("unicode_escape").decode())
        named = domain or "the name that clients use"
        problem = f"this server is not known as {shown}: add {named} to the setting allowed_hosts, or set public_url"
        refuse: Callable[..., HttpResponseBase] = get_resolver().resolve_error_handler(400)
        answer = refuse(request, exception=BadRequest(problem))
        answer._has_been_logged = True  # type: ignore[attr-defined]  # else Django writes a second line
        return answer


def unknown_host(request: HttpRequest) -> str | None:
    """Return the host that `request` asks for if it is not one of ours, else None."""
    host: str = request._get_raw_host()  # type: ignore[attr-defined]
    domain, _ = split_domain_port(host)
    return None if domain and validate_host(domain, settings.ALLOWED_HOSTS) else host


def _use_allowed_form(request: HttpRequest) -> None:
    """Write an IPv6 address in `Host`, and in its `Origin`, as ALLOWED_HOSTS has it, for all that compares texts later.

    Browsers send the shortest form (WHATWG URL, section 3.5), other programs what was typed, some with the scope, which
    only means something on the client's machine. An address that maps IPv4 is that of IPv4.
    """
    given = request.META.get("HTTP_HOST", "")
    match = _IPV6_HOST.match(given)
    if match is None or (asked := _address(match[1])) is None:
        return
    same = [entry for entry in settings.ALLOWED_HOSTS if _address(entry.strip("[]")) == asked]
    if same:  # that of IPv6 if there are two
        found = max(same, key=lambda entry: entry.startswith("[")) + (match[2] or "")
        request.META["HTTP_HOST"] = found
        scheme, separator, host = request.META.get("HTTP_ORIGIN", "").partition("://")
        if host == given:
            request.META["HTTP_ORIGIN"] = f"{scheme}{separator}{found}"


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_open_to_any_host(request: HttpRequest) -> bool:
    has_token = request.META.get("HTTP_AUTHORIZATION", "").lower().startswith("token ")  # checked by the view
    return request.path_info in _PROBES or (request.path_info == "/metrics" and has_token)


class ContentSecurityPolicy:
    """Add the policy to every answer. A view that may be framed names the sites in `response.frame_ancestors`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        ancestors = getattr(response, "frame_ancestors", None)
        foreign = request.path_info.startswith(_FOREIGN_PAGES)
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
        if origin is None or not request.path_info.startswith(_CORS_PATHS):
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

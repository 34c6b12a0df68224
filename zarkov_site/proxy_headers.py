"""Believe what a trusted proxy says about a request: who sent it, by which scheme, to which host and path.

A WSGI application (PEP 3333) around the site, so that Django, throttling and logs all see the same. What others send in
these headers is removed.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from zarkov_site.config.public_address import PublicAddress

FOR, PROTO, HOST, PREFIX = (f"HTTP_X_FORWARDED_{word}" for word in ("FOR", "PROTO", "HOST", "PREFIX"))
_HEADERS = (FOR, PROTO, HOST, PREFIX, "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_SSL", "HTTP_X_REAL_IP")
_WITH_PORT = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|(\d+\.\d+\.\d+\.\d+))(?::\d+)?\Z")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
log = logging.getLogger(__name__)

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]


class ProxyHeaders:
    """Call `application` with the environment as the browser would describe it. Has no state of a request."""

    def __init__(self, application: Application, proxies: Sequence[str], public: PublicAddress | None) -> None:
        self._application = application
        self._networks = [ipaddress.ip_network(network) for network in proxies]
        self._public = public
        self._warned = False  # of a peer that may be a proxy which nobody has named

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Change `environ` in place, so that the server's access log has the real client, too."""
        peer = read_address(str(environ.get("REMOTE_ADDR", "")))
        trusted = peer is not None and self._trusts(peer)
        given = {name: str(environ.pop(name, "")) for name in _HEADERS}
        by_proxy = trusted and any(given.values())
        if not trusted and given[FOR] and self._is_public(environ):
            self._warn(peer)
        if trusted:
            hops = self._client(environ, given[FOR])
            if host := _said(given[HOST], hops):
                environ["HTTP_HOST"] = host
            self._scheme(environ, _said(given[PROTO], hops).lower())
        self._path(environ, by_proxy=by_proxy)
        return self._application(environ, start_response)

    def _warn(self, peer: Address | None) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "forwarded headers ignored peer=%s: if it is your proxy, add it to the setting trusted_proxies, else "
                "all clients count as one and cookies are not Secure", peer,
            )  # fmt: skip

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def _client(self, environ: Environ, forwarded_for: str) -> int:
        """Set the client: the right-most address that is not a proxy's. To the left of it anybody can write anything.

        If all are proxies, it is the left-most of them; it is the last proxy's if what it says is not an address.
        Return how many proxies are between the client and the one that talks to us.
        """
        for hops, text in enumerate(reversed(forwarded_for.split(","))):
            address = read_address(text)
            if address is None:
                return max(hops - 1, 0)
            environ["REMOTE_ADDR"] = str(address)
            environ.pop("REMOTE_PORT", None)
            if not self._trusts(address):
                return hops
        return hops

    def _scheme(self, environ: Environ, proto: str) -> None:
        """Set the scheme: what the proxy says, else that of `public_url` if the request was sent to its host."""
        if proto in {"http", "https"}:
            environ["wsgi.url_scheme"] = proto
        elif self._public is not None and self._is_public(environ):
            environ["wsgi.url_scheme"] = self._public.scheme

    def _is_public(self, environ: Environ) -> bool:
        if self._public is None:
            return False
        default = {"http": ":80", "https": ":443"}[self._public.scheme]
        return str(environ.get("HTTP_HOST", "")).lower().removesuffix(default) == self._public.authority

    def _path(self, environ: Environ, *, by_proxy: bool) -> None:
        """Move the prefix of `public_url` from the path to SCRIPT_NAME; add it if the proxy has removed it already.

        Without it, a request that did not come through a proxy gets pages whose links have no prefix.
        """
        prefix = self._public.prefix if self._public is not None else ""
        if not prefix:
            return
        path = str(environ.get("PATH_INFO", ""))
        if path == prefix or path.startswith(f"{prefix}/"):
            environ["PATH_INFO"] = path[len(prefix) :]
            environ["SCRIPT_NAME"] = prefix
        elif by_proxy or self._is_public(environ):
            environ["SCRIPT_NAME"] = prefix


def read_address(text: str) -> Address | None:
    """Return the address in `text`, with or without a port and brackets; None if there is none.

    An IPv4 address that a socket of IPv6 shows as ::ffff:10.0.0.1 is 10.0.0.1 (RFC 4291, section 2.5.5.2).
    """
    bare = text.strip().strip('"')
    match = _WITH_PORT.match(bare)
    try:
        found = ipaddress.ip_address((match[1] or match[2]) if match else bare)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _said(header: str, hops: int) -> str:
    """Return what the proxy next to the client said, if every one added a value; else the oldest of the proxies'."""
    values = header.split(",")
    return values[max(len(values) - 1 - hops, 0)].strip()

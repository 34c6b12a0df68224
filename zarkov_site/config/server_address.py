"""Types of settings that name hosts, networks, sites and servers. What is not understood is refused."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pymongo.errors import PyMongoError

from zarkov_site.config.listen_address import HOST_NAME, in_url, ipv6_text
from zarkov_site.config.value import read_list

_ENDS_IN_NUMBER = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)\Z")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_SMTP = re.compile(r"smtps?://([^@/?#\s]+@)?([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?/?\Z")
_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\Z")
# What Zarkov serves at its top: a path of public_url that starts with one of these could mean two things.
OWN_PATHS = frozenset(
    {
        *("admin", "aggregates", "api", "charts", "collections", "dashboards", "embed", "favicon.ico", "healthz"),
        *("jobs", "live", "login", "logout", "metrics", "q", "qr", "qs", "readyz", "static"),
    }
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ORIGIN_FORM = (
    "use scheme://host[:port] as browsers send it in the header Origin: http or https, lower case, without the port of "
    "the scheme, path and final slash, such as https://wiki.example.org; or * alone for every site"
)


def _is_host(text: str) -> bool:
    """Return whether `text` is a name, or an IPv4 address as browsers send it.

    What ends in a number is an address to them, which they write with four (WHATWG URL, section 3.5): `127.1` never
    arrives as that.
    """
    if not _ENDS_IN_NUMBER.search(text):
        return _DOMAIN.match(text) is not None
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _allowed_host(value: str) -> str:
    """Accept what Django's ALLOWED_HOSTS does, and IPv6 without its brackets."""
    try:
        return f"[{ipv6_text(value.strip('[]'))}]"
    except ValueError:
        pass
    if value != "*" and not _is_host(value.lower().removeprefix(".")):
        raise ValueError(
            f"{value!r} is not a host: use names or addresses without scheme and port, such as charts.example.org, "
            ".example.org for all names below it, or 10.1.2.3"
        )
    return value


def _allowed_hosts(value: list[str]) -> list[str]:
    return [_allowed_host(host) for host in value]


def _network(value: str) -> str:
    """Return a network in its normal form; one of mapped IPv4 as IPv4, as which peers are known."""
    try:
        found = ipaddress.ip_network(value)
        mapped = getattr(found.network_address, "ipv4_mapped", None)
        if mapped is not None and found.prefixlen >= 96:
            found = ipaddress.ip_network((mapped, found.prefixlen - 96))
        return str(found)
    except ValueError as error:
        hint = f"; {error}" if "host bits" in str(error) else ""
        raise ValueError(
            f"{value!r} is not an address or a network{hint}: use addresses such as 10.0.0.7 or ::1, and networks such "
            "as 10.0.0.0/8, never names"
        ) from None


def _networks(value: list[str]) -> list[str]:
    return [_network(part) for part in value]


def _public_url(value: str) -> str:
    """Return the address in its normal form (RFC 3986, section 6.2): lower case, no default port, no final slash."""
    form = "use http:// or https://, a host, and perhaps a port and a path, such as https://stats.example.org/zarkov"
    if not value.isascii() or re.search(r"[\s\\?#@]", value):
        raise ValueError(f"{form}; a name with other letters is written with xn--, and there is no user and no query")
    try:
        parts = urlsplit(value)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise ValueError(form) from None
    if parts.scheme not in _DEFAULT_PORTS or port == 0 or parts.netloc.endswith(":"):
        raise ValueError(form)
    try:
        host = ipv6_text(host) if ":" in host else host
    except ValueError:
        raise ValueError(form) from None
    if ":" not in host and not _is_host(host):
        raise ValueError(f"{host!r} is not a host name: {form}")
    path = parts.path.rstrip("/")
    if not _PATH.match(path):
        raise ValueError(f"the path {path!r} is not allowed: {form}; parts of letters, digits, and - . _ ~")
    if (first := path[1:].partition("/")[0]) in OWN_PATHS:
        raise ValueError(f"its path must not start with {first!r}, which is a page of Zarkov's own: choose another")
    shown = "" if port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{port}"
    return f"{parts.scheme}://{in_url(host)}{shown}{path}"


def _origins(value: list[str]) -> list[str]:
    """Accept origins as browsers send them (RFC 6454, section 6.2), since they are compared as text; or `*` alone."""
    return value if value == ["*"] else [_origin(text) for text in value]


def _origin(value: str) -> str:
    try:
        parts = urlsplit(_public_url(value))
    except ValueError:
        raise ValueError(f"{value!r} is not an origin: {_ORIGIN_FORM}") from None
    sent = f"{parts.scheme}://{parts.netloc}"
    if value != sent:
        raise ValueError(f"{value!r} is not an origin, {sent} is: {_ORIGIN_FORM}")
    return value


def _web_url(value: str) -> str:
    """Accept an address that `urllib.request` can post to, which knows no user in it."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", 0
    is_plain = value.isascii() and not re.search(r"[\x00-\x20\x7f\\]", value)
    is_named = "@" not in value.partition("://")[2].partition("/")[0] and (":" in host or HOST_NAME.match(host))
    if not re.match(r"https?://", value) or not is_plain or not is_named or port == 0:
        raise ValueError("use http://HOST or https://HOST, perhaps with a port and a path, without blanks and user")
    return value


def _smtp_url(value: str) -> str:
    match = _SMTP.match(value)
    if match is None or not 1 <= int(match["port"] or 25) <= 65535 or not value.isprintable():
        raise ValueError("use smtp://[USER:PASSWORD@]HOST[:PORT], or smtps://... for TLS from the start")
    return value


def _mongo_uri(value: str) -> str:
    """Accept what pymongo reads; hosts of `mongodb+srv` are looked up when it connects."""
    from pymongo.uri_parser import parse_uri  # most of PyMongo, which is imported by those who connect

    form = "use mongodb://HOST[:PORT]... or mongodb+srv://HOST..."
    if re.search(r"[\s\x00-\x1f\x7f]", value) or not re.match(r"mongodb(\+srv)?://[^/?]", value):
        raise ValueError(form)
    if value.startswith("mongodb://"):
        try:
            parse_uri(value, validate=False, warn=False)
        except PyMongoError as error:
            raise ValueError(f"{form}; {error}") from None
    return value


Origins = Annotated[list[str], BeforeValidator(read_list), AfterValidator(_origins)]
AllowedHosts = Annotated[list[str], BeforeValidator(read_list), AfterValidator(_allowed_hosts)]
Networks = Annotated[list[str], BeforeValidator(read_list), AfterValidator(_networks)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
SmtpUrl = Annotated[str, AfterValidator(_smtp_url)]
WebUrl = Annotated[str, AfterValidator(_web_url)]
MongoUri = Annotated[str, AfterValidator(_mongo_uri)]

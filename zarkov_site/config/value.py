"""Types of setting values, each with its parser and checks."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from ingest.time_zone import is_zone, zone_advice
from zarkov_site.config.listen_address import in_url, ipv6_text

_SIZE_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"\s*(\d+)\s*([a-zA-Z]*)\s*\Z", re.ASCII)
_SYNC = re.compile(r"(batch|off|interval:([1-9]\d{0,8}))\Z", re.ASCII)
MAX_SYNC_MS = 60_000  # losing more than a minute of events is not worth the speed
_ENDS_IN_NUMBER = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)\Z")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\Z")
# What Zarkov serves at its top: a path of public_url that starts with one of these could mean two things.
OWN_PATHS = frozenset(
    {
        *("admin", "aggregates", "api", "charts", "collections", "dashboards", "embed", "favicon.ico", "healthz"),
        *("jobs", "live", "login", "logout", "metrics", "q", "qr", "qs", "readyz", "static"),
    }
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_BRACKETED_IPV6 = re.compile(r"\[[0-9a-fA-F.]*:[^\[\]\s,\"']*\]")
_MARKS = re.compile(r"[\[\]{}\"']")
_LIST_FORMS = 'use one, two or ["one", "two"], and [] for none'
_EMAIL = re.compile(r"[^@\s,]+@[^@\s,]+\Z")


def _size(value: Any) -> Any:
    """Accept 8388608 and "8 MiB"."""
    if isinstance(value, str) and (match := _SIZE.match(value)):
        unit = _SIZE_UNITS.get(match[2].lower())
        if unit is not None:
            return int(match[1]) * unit
    return value


def _names(value: Any) -> Any:
    """Accept a list, and as text "one.module, another.module" or a JSON list; "[]", since an empty text is the default.

    Raise `ValueError` for an empty item, and for text that is neither: brackets stand around IPv6 addresses only.
    """
    items = _split(value) if isinstance(value, str) else value
    if isinstance(items, list) and any(isinstance(item, str) and not item.strip() for item in items):
        raise ValueError(f"it has an empty item: {_LIST_FORMS}")
    return items


def _split(text: str) -> list[Any]:
    plain = [part.strip() for part in text.split(",")]
    if text.lstrip().startswith("[") and not _BRACKETED_IPV6.match(plain[0]):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise ValueError(f"it is not a JSON list of texts: {_LIST_FORMS}")
        return found
    if strange := [part for part in plain if _MARKS.search(_BRACKETED_IPV6.sub("", part))]:
        raise ValueError(f"{strange[0]!r} has marks of a list inside: {_LIST_FORMS}")
    return plain


def _task_modules(value: list[str]) -> list[str]:
    for name in value:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name!r} is not the name of a module: use names such as shop.tasks")
    return value


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


def _sync(value: str) -> str:
    match = _SYNC.match(value)
    if not match or int(match[2] or 0) > MAX_SYNC_MS:
        raise ValueError(f"use batch, off or interval:MS (whole milliseconds, 1 to {MAX_SYNC_MS})")
    return value


def _zone(value: str) -> str:
    if not is_zone(value):
        raise ValueError(f"use {zone_advice(value)}")
    return value


def _matching(pattern: str, remedy: str) -> AfterValidator:
    """Return a validator of texts that match `pattern` from their start; its error is `remedy`."""

    def check(value: str) -> str:
        if not re.match(pattern, value):
            raise ValueError(remedy)
        return value

    return AfterValidator(check)


def _addresses(value: list[str]) -> list[str]:
    for address in value:
        if not _EMAIL.match(address):
            raise ValueError(f"{address!r} is not a mail address: use addresses such as ops@example.org")
    return value


Size = Annotated[int, BeforeValidator(_size), Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
Names = Annotated[list[str], BeforeValidator(_names)]
TaskModules = Annotated[list[str], BeforeValidator(_names), AfterValidator(_task_modules)]
AllowedHosts = Annotated[list[str], BeforeValidator(_names), AfterValidator(_allowed_hosts)]
Networks = Annotated[list[str], BeforeValidator(_names), AfterValidator(_networks)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Sync = Annotated[str, AfterValidator(_sync)]
Zone = Annotated[str, AfterValidator(_zone)]
DatabaseName = Annotated[str, _matching(r"[A-Za-z0-9_-]{1,63}\Z", "use 1 to 63 letters, digits, _ and -")]
SmtpUrl = Annotated[
    str,
    _matching(
        r"smtps?://([^@/\s]+@)?[A-Za-z0-9_.-]+(:\d{1,5})?/?\Z",
        "use smtp://[USER:PASSWORD@]HOST[:PORT], or smtps://... for TLS from the start",
    ),
]
WebUrl = Annotated[str, _matching(r"https?://", "use http://... or https://...")]
Addresses = Annotated[list[str], BeforeValidator(_names), AfterValidator(_addresses)]
MongoUri = Annotated[str, _matching(r"mongodb(\+srv)?://", "use mongodb://... or mongodb+srv://...")]

"""Types of setting values, each with its parser and checks."""

from __future__ import annotations

import re
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field

_SIZE_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"\s*(\d+)\s*([a-zA-Z]*)\s*\Z")
TCP = re.compile(r"tcp://(\[[0-9a-fA-F:]+\]|\*|[A-Za-z0-9_.-]+):(\d{1,5})\Z")
TCP_NO_PORT = re.compile(r"tcp://(\[[0-9a-fA-F:]+\]|\*|[A-Za-z0-9_.-]+)\Z")
_IPC = re.compile(r"ipc://.+\Z")
_HOST_PORT = re.compile(r"([A-Za-z0-9_.-]+):(\d{1,5})\Z")
_SYNC = re.compile(r"(batch|off|interval:([1-9]\d*))\Z")
MAX_SYNC_MS = 60_000  # losing more than a minute of events is not worth the speed
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_EMAIL = re.compile(r"[^@\s,]+@[^@\s,]+\Z")


def _size(value: Any) -> Any:
    """Accept 8388608 and "8 MiB"."""
    if isinstance(value, str) and (match := _SIZE.match(value)):
        unit = _SIZE_UNITS.get(match[2].lower())
        if unit is not None:
            return int(match[1]) * unit
    return value


def _names(value: Any) -> Any:
    """Accept a list and "one.module, another.module"."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _address(value: str) -> str:
    match = TCP.match(value)
    if match and int(match[2]) <= 65535:
        return value
    if _IPC.match(value):
        return value
    raise ValueError("use tcp://HOST:PORT (port 0 = any free port) or ipc://PATH")


def _worker_address(value: str) -> str:
    return value if TCP_NO_PORT.match(value) else _address(value)


def _host_port(value: str) -> str:
    match = _HOST_PORT.match(value)
    if not match or int(match[2]) > 65535:
        raise ValueError("use HOST:PORT")
    if match[1] not in LOOPBACK:
        raise ValueError("it opens a Python prompt, so the host must be loopback, such as 127.0.0.1:6545")
    return value


def _sync(value: str) -> str:
    match = _SYNC.match(value)
    if not match or int(match[2] or 0) > MAX_SYNC_MS:
        raise ValueError(f"use batch, off or interval:MS (whole milliseconds, 1 to {MAX_SYNC_MS})")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("use a name in the IANA time zone database, such as UTC or Europe/Berlin") from None
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
Address = Annotated[str, AfterValidator(_address)]
Port = Annotated[int, Field(ge=0, le=65535)]
Names = Annotated[list[str], BeforeValidator(_names)]
WorkerAddress = Annotated[str, AfterValidator(_worker_address)]
HostPort = Annotated[str, AfterValidator(_host_port)]
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

"""Types of settings that say where sockets listen. What is not understood is refused: it could mean every interface."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator

from ingest.loopback import is_loopback

_INTERFACE = r"(\[[0-9a-fA-F:.]+(?:%[A-Za-z0-9_.-]+)?\]|\*|[A-Za-z0-9_.-]+)"
_PORT = r"(0|[1-9][0-9]{0,4})"
TCP = re.compile(rf"tcp://{_INTERFACE}:{_PORT}\Z")
TCP_NO_PORT = re.compile(rf"tcp://{_INTERFACE}\Z")
_IPC = re.compile(r"ipc://(?!\*\Z)\S+\Z")  # ZeroMQ puts a file of its own choice in place of *
_ABSTRACT = "ipc://@"  # zmq_ipc(7), unix(7)
_HOST_PORT = re.compile(rf"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):{_PORT}\Z")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\Z")  # of a host or of an interface
_NUMBERS = re.compile(r"(?i:[0-9]+|0x[0-9a-f]*)(\.(?i:[0-9]+|0x[0-9a-f]*))*\Z")  # what inet_aton(3) may read


def reachable(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`: every interface is loopback."""
    bare = host.strip("[]")
    if bare == "*":
        return "127.0.0.1"
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return host
    mapped = getattr(found, "ipv4_mapped", None)
    if not (mapped or found).is_unspecified:
        return host
    return "127.0.0.1" if mapped or found.version == 4 else "::1"


def in_url(host: str) -> str:
    """Return `host` as it stands in an address: IPv6 in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def ipv6_text(text: str) -> str:
    """Return an IPv6 address as browsers write it: shortest, and without the form of IPv4 (WHATWG URL, section 3.5).

    Raise `ValueError` if it is none. A scope is kept.
    """
    found = ipaddress.IPv6Address(text)
    if found.ipv4_mapped is None:
        return found.compressed
    return f"::ffff:{int(found) >> 16 & 0xFFFF:x}:{int(found) & 0xFFFF:x}"  # newer Pythons write ::ffff:10.0.0.9


def _ipv4(text: str) -> str:
    """Return an address of four decimal numbers. Raise `ValueError` for every other way to write one.

    inet_aton(3), and so ZeroMQ and gunicorn, would listen on all of 0.0.0.0 for `0` and `0x0`, and read `010` as 8.
    """
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError(
            "an IPv4 address has four numbers from 0 to 255 without leading zeros, such as 127.0.0.1; every interface "
            "of the machine is 0.0.0.0"
        ) from None


def names_in_requests(host: str) -> list[str]:
    """Return the values of `Host`, without port, of requests to a server that listens on `host`.

    Browsers do not send the scope of an address; one that maps IPv4 is reached by both.
    """
    bare = host.partition("%")[0]
    if ":" not in bare:
        return [bare]
    mapped = ipaddress.IPv6Address(bare).ipv4_mapped
    return [in_url(bare), *([str(mapped)] if mapped else [])]


def _host(value: str) -> str:
    """Accept a name, an IPv4 address and an IPv6 address, also in brackets, which are removed, and with a scope."""
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if bare == value and _NUMBERS.match(value):
        return _ipv4(value)
    if bare == value and HOST_NAME.match(value):
        return value
    try:
        return ipv6_text(bare)
    except ValueError:
        raise ValueError("use a name or an address without a port, such as 127.0.0.1, 0.0.0.0, ::1 or ::") from None


def _interface(value: str) -> str:
    """Accept what `_host` does, and `*` for every interface."""
    return value if value == "*" else _host(value)


def _address(value: str) -> str:
    match = TCP.match(value)
    if match and int(match[2]) <= 65535:
        _check_interface(match[1])
        return value
    if value.startswith(_ABSTRACT):
        raise ValueError(
            f"{value}: an abstract socket has no file, whose mode would say who may connect: everybody on this machine "
            "could; use ipc://PATH"
        )
    if _IPC.match(value):
        return value
    raise ValueError("use tcp://HOST:PORT (port 0 = any free port) or ipc://PATH")


def _check_interface(host: str) -> None:
    try:
        _interface(host)
    except ValueError as error:
        raise ValueError(f"its host {host!r} is not understood: {error}") from None


def _worker_address(value: str) -> str:
    if match := TCP_NO_PORT.match(value):
        _check_interface(match[1])
        return value
    return _address(value)


def _host_port(value: str) -> str:
    match = _HOST_PORT.match(value)
    if not match or int(match[2]) > 65535:
        raise ValueError("use HOST:PORT")
    if not is_loopback(match[1]):
        raise ValueError("it opens a Python prompt, so the host must be loopback, such as 127.0.0.1:6545")
    return value


Address = Annotated[str, AfterValidator(_address)]
WorkerAddress = Annotated[str, AfterValidator(_worker_address)]
Host = Annotated[str, AfterValidator(_host)]
Interface = Annotated[str, AfterValidator(_interface)]
HostPort = Annotated[str, AfterValidator(_host_port)]

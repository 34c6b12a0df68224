"""Exchange HTTP messages byte by byte over a socket."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

from tests.support.web.server import Server


def chunks(*parts: bytes, extension: str = "", trailer: str = "") -> bytes:
    """Return the parts as chunks, with the last one (RFC 9112, section 7.1)."""
    encoded = b"".join(f"{len(part):x}{extension}\r\n".encode() + part + b"\r\n" for part in parts)
    return encoded + f"0\r\n{trailer}\r\n".encode()


class Answer:
    """The last answer on a connection, and everything before it."""

    def __init__(self, received: bytes) -> None:
        self.received = received
        final = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        head, _, self.body = final.partition(b"\r\n\r\n")
        self.status = int(head.split()[1]) if head else 0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def exchange(server: Server, request: bytes) -> Answer:
    """Send bytes, and return what is answered until the server ends the connection."""
    url = urlsplit(server.url())
    with socket.create_connection((url.hostname, url.port), timeout=90) as connection:
        connection.sendall(request)
        return Answer(connection.makefile("rb").read())

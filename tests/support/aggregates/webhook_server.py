"""A web server that receives alert messages, and a generator that runs a server for the length of a test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class Hook(BaseHTTPRequestHandler):
    """Record what is posted; reply with the prepared status codes first."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if server.answers:
            self.send_response(server.answers.pop(0))
        else:
            server.calls.append((json.loads(body), self.headers["X-Zarkov-Message"]))
            self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def served(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def hooked() -> Iterator[Any]:
    """Yield a server with its `url`, the received `calls`, and `answers`: status codes to send before accepting any."""
    server: Any = HTTPServer(("127.0.0.1", 0), Hook)
    server.calls, server.answers = [], []
    server.url = f"http://127.0.0.1:{server.server_address[1]}/in"
    yield from served(server)

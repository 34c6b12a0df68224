"""A backend that delivers to a list, batches as publishers send them, and a TCP server that records what it reads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Any

from ingest.metrics.backend.interface import Backend, BackendOptions
from ingest.metrics.exceptions import PostponedError
from ingest.metrics.identity import Identity
from ingest.metrics.wire import Batch, pack_batch


class Collecting(Backend):
    """Deliver to a list, or refuse to."""

    name = "collecting"
    payloads_at_once = 2

    def connect(self) -> None:
        self.accepted: list[Any] = []
        self.away = False
        self.attempts = 0

    def pack(self) -> list[Any]:
        return [(identity.name, found.sum) for identity, _, found in self.gathered.collect()]

    def deliver(self, payloads: Sequence[Any]) -> int:
        self.attempts += 1
        if self.away:
            raise PostponedError("away")
        self.accepted += payloads
        return len(payloads)


def made(kind: type[Backend] = Collecting, *levels: str, flush_s: float = 1e6, **own: Any) -> Any:
    """Return a backend that is connected to its target and, as nothing listens there, to no broker."""
    backend = kind(BackendOptions("tcp://127.0.0.1:1", levels, flush_s, own))
    backend.connect()
    return backend


def batch(name: str = "a", level: str = "info", sequence: int = 0, **more: Any) -> bytes:
    """Return a packed batch of one measurement of 1, unless `more` says otherwise."""
    who = Identity(level, more.pop("type", "Counter"), name, more.pop("source", "x"), more.pop("tags", ()))
    publisher = "p" if sequence else ""
    return pack_batch(
        Batch(who, 1_300_000_000, **{"count": 1, "sum": 1, "publisher": publisher, **more}, sequence=sequence)
    )


class RecordingServer:
    """Accept connections one after the other and record what each sent."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                line, _ = self.listening.accept()
            except OSError:
                return
            with line:
                received = b""
                while data := line.recv(65536):
                    received += data
                self.received.append(received)

    def close(self) -> None:
        if self.listening.fileno() < 0:
            return
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self._thread.join(10)

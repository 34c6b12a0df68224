"""Register a worker that takes steps and does not do them, beside the real workers of a cluster."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

import zmq

from mapreduce.scheduler.worker_state import HEARTBEAT_S
from mapreduce.wire import message

SILENT, FORGETFUL, PROGRESS, EMPTY = "silent", "forgetful", "progress", "empty"


class Liar(threading.Thread):
    """A worker whose heartbeats claim idle slots and, unless it is `forgetful`, that it works on its steps.

    With `progress`, it reports ever more documents; with `empty`, it says that splits are mapped, but has no output.
    """

    def __init__(self, address: str, kind: str, name: str = "liar:1", slots: int = 4) -> None:
        super().__init__(name=name)
        self.kind = kind
        self.steps: list[str] = []  # kinds of the steps it was given
        self._slots = slots
        self._running: dict[str, dict[str, Any]] = {}
        self._ended = threading.Event()
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.IDENTITY, f"{kind}{name}".encode())
        self._socket.connect(address)

    def run(self) -> None:
        """Lie until `stop`."""
        self._hello()
        beat_s = 0.0
        while not self._ended.is_set():
            if time.monotonic() - beat_s >= HEARTBEAT_S / 5:
                beat_s = time.monotonic()
                running = [] if self.kind == FORGETFUL else list(self._running)
                self._send(message.BEAT, {"idle": self._slots, "spare": 1, "running": running})
                self._report()
            if self._socket.poll(50):
                self._hear(*message.unpack(self._socket.recv_multipart())[:2])
        self._send(message.BYE, {})
        self._socket.close(500)
        self._context.term()

    def _hello(self) -> None:
        header = {"name": self.name, "versions": message.versions(), "slots": self._slots, "idle": self._slots}
        self._send(message.HELLO, {**header, "spare": 1, "data_uri": "tcp://127.0.0.1:1", "held": []})

    def _hear(self, kind: str, header: dict[str, Any]) -> None:
        if kind == message.TASK:
            self.steps.append(header["kind"])
            self._running[header["attempt"]] = header
            if self.kind == EMPTY:
                self._send(message.DONE, {**_named(header), "result": {}, "held": None})
        elif kind == message.ABORT:
            self._running.pop(header["attempt"], None)
        elif kind == message.BEAT and not header["known"]:
            self._hello()

    def _report(self) -> None:
        if self.kind == PROGRESS:
            for header in self._running.values():
                docs = int(time.monotonic() * 1_000)
                self._send(message.PROGRESS, {**_named(header), "docs": docs, "phase": None})

    def _send(self, kind: str, header: dict[str, Any]) -> None:
        self._socket.send_multipart(message.pack(kind, header))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.join(60)


def _named(header: dict[str, Any]) -> dict[str, Any]:
    return {"job": header["job"], "attempt": header["attempt"]}

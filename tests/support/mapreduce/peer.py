"""Run a router in a thread of the test, and send it messages as a client or a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import bson
import zmq

from ingest.management.stop_signal import StopSignal
from mapreduce.codec import encode
from mapreduce.router.router import Router
from mapreduce.settings import EngineSettings
from mapreduce.wire import message


class Peer:
    """Talk to a router that runs in a thread of the test, as a client and as an alleged worker."""

    def __init__(self, settings: EngineSettings, may_log: Callable[[str], bool] = lambda key: True) -> None:
        self.said: list[str] = []
        self.router = Router(settings, self.said.append, may_log)
        self.addresses = self.router.start()
        self._stop = StopSignal()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.context: zmq.Context[Any] = zmq.Context()
        self._sockets: list[Any] = []

    def _run(self) -> None:
        self.router.run(self._stop)

    def ask(self, **request: Any) -> dict[str, Any]:
        socket = self.socket(zmq.REQ, "zmr.req_bind")
        socket.send(encode(request))
        assert socket.poll(60_000), "every request gets a reply"
        return bson.decode(socket.recv())

    def socket(self, kind: int, key: str, identity: bytes = b"") -> Any:
        socket = self.context.socket(kind)
        if identity:
            socket.set(zmq.IDENTITY, identity)
        socket.set(zmq.LINGER, 0)
        socket.connect(self.addresses[key])
        self._sockets.append(socket)
        return socket

    def worker(self, **changes: Any) -> Any:
        socket = self.socket(zmq.DEALER, "zmr.worker_bind")
        socket.send_multipart(message.pack(message.HELLO, {**HELLO, "versions": message.versions(), **changes}))
        return socket

    def hear(self, socket: Any, kind: str) -> dict[str, Any]:
        while True:
            assert socket.poll(60_000), kind
            found, header, _ = message.unpack(socket.recv_multipart())
            if found == kind:
                return header

    def stop(self) -> None:
        self._stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive(), "the router does not end"  # its sockets are still in use
        for socket in self._sockets:
            socket.close()
        self.context.term()
        self.router.stop()
        self._stop.close()


HELLO = {"name": "w", "slots": 1, "idle": 1, "spare": 0, "data_uri": "tcp://127.0.0.1:1", "held": []}

"""Senders of messages that are as large as they may be, as fast as they are taken."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import bson
import zmq
from pymongo.database import Database

from tests.support.ingest.running import sums

BIG_BYTES = 15 * 2**20
SMALL_COUNT = 20  # small events after each big one
BIG = {
    "bson": bson.encode({"type": "big", "extra": "x" * BIG_BYTES}),
    "json": b'{"type": "big", "extra": "' + b"x" * BIG_BYTES + b'"}',
}
SMALL = {"bson": bson.encode({"type": "small"}), "json": b'{"type": "small"}'}


def arrived(database: Database[Any]) -> tuple[int, int]:
    """Return how many events are stored, and how many big ones that were pushed are refused."""
    return sums(database)["stored"], database["quarantine"].count_documents({"source": {"$in": ["bson", "json"]}})


class HostileSenders:
    """Push `rounds` big messages, each followed by small ones, from a thread and a connection for each address.

    `addresses` are pairs of receiver and address. Those of the acknowledged receiver send for ever and read no answer.
    Use it as a context; `sent` counts what ZeroMQ has taken.
    """

    def __init__(self, addresses: Sequence[tuple[str, str]], rounds: int) -> None:
        self._rounds = rounds
        self._stopping = threading.Event()
        self._context: zmq.Context[Any] = zmq.Context()
        self._lock = threading.Lock()
        self.sent = {"big": 0, "small": 0}
        self._threads = [threading.Thread(target=self._run, args=each, daemon=True) for each in addresses]

    def __enter__(self) -> HostileSenders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._context.term()

    def _run(self, receiver: str, address: str) -> None:
        requests = receiver == "ack"
        socket = self._context.socket(zmq.DEALER if requests else zmq.PUSH)
        socket.setsockopt(zmq.SNDHWM, 1)
        socket.setsockopt(zmq.SNDTIMEO, 50)
        socket.setsockopt(zmq.LINGER, 0)
        with socket:
            socket.connect(address)
            while requests and self._send(socket, "big", b"1", BIG["bson"]):
                pass
            for _ in range(0 if requests else self._rounds):
                self._send(socket, "big", BIG[receiver])
                for _ in range(SMALL_COUNT):
                    self._send(socket, "small", SMALL[receiver])
            self._stopping.wait()

    def _send(self, socket: zmq.Socket[bytes], kind: str, *frames: bytes) -> bool:
        while not self._stopping.is_set():
            try:
                socket.send_multipart(frames, copy=len(frames[-1]) < BIG_BYTES)
            except zmq.Again:
                continue
            if len(frames) == 1:
                with self._lock:
                    self.sent[kind] += 1
            return True
        return False

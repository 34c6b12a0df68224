"""Senders of numbers over ZeroMQ, and a receiver that reads them to the end."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import zmq

from ingest.server.socket_reader import bound_address
from ingest.transport import kernel_socket
from ingest.transport.kernel_socket import connections
from ingest.transport.socket_drain import read_all
from tests.support.waiting import eventually

HIGH_WATER_COUNT = 10
BODY = b"." * 500


def unread_bytes(address: str) -> int:
    """Return how many bytes the kernel holds that the socket bound to `address` has not taken yet."""
    return sum(map(kernel_socket.unread_bytes, connections(address, accepted=True)))


class Sender(threading.Thread):
    """Send numbers over one connection."""

    def __init__(self, address: str, most: int = 10**9, pause_s: float = 0.0, queue: int = HIGH_WATER_COUNT) -> None:
        super().__init__(daemon=True)
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.PUSH)
        self.socket.setsockopt(zmq.SNDHWM, queue)
        self.socket.connect(address)
        self.sent = 0
        self.refused = 0  # attempts while the queue and the kernel's buffers were full
        self.over = threading.Event()
        self._most = most
        self._pause_s = pause_s

    def run(self) -> None:
        while not self.over.is_set() and self.sent < self._most:
            try:
                self.socket.send(b"%d" % self.sent + BODY, zmq.NOBLOCK)
                self.sent += 1
                if self._pause_s:
                    self.over.wait(self._pause_s)
            except zmq.Again:
                self.refused += 1
                self.over.wait(0.001)

    def end(self) -> None:
        self.over.set()
        self.join(20)
        self.socket.close(linger=0)
        self.context.term()


class Receiver:
    """Have a small queue, so that most of what was sent is in the kernel."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.numbers: list[int] = []
        self.turn_s = 0.0  # how long receiving takes
        self.bind(address)

    def bind(self, address: str) -> None:
        self.socket = self._context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
        eventually(lambda: self._bound(address), what="the address is free again")
        self.address = bound_address(self.socket)
        kernel_socket.limit_segments(self.address)

    def _bound(self, address: str) -> bool:
        with contextlib.suppress(zmq.ZMQError):
            self.socket.bind(address)
            return True
        return False

    def receive(self) -> int:
        """Receive some numbers; return how many."""
        time.sleep(self.turn_s)
        before = len(self.numbers)
        with contextlib.suppress(zmq.Again):
            while len(self.numbers) - before < HIGH_WATER_COUNT:
                self.numbers.append(int(self.socket.recv(zmq.NOBLOCK).partition(b".")[0]))
        return len(self.numbers) - before

    def read_all(self) -> list[int]:
        """Return the numbers that were received at the end."""
        before = len(self.numbers)
        read_all(self.socket, self.address, self.receive)
        return self.numbers[before:]

    def close(self) -> None:
        self.socket.close(linger=0)
        self._context.term()

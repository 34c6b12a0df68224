"""Publish notices in a thread of its own, so that what subscribers do holds up nobody else.

libzmq handles subscriptions in the thread that publishes. One that ends after it subscribed to very much keeps that
thread busy for seconds, with the interpreter's lock released.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any

import zmq

_ADDRESS = "inproc://notices"
_PATIENCE_MS = 100
_END = b""  # no notice is empty


class NoticeSender:
    """Publish on a PUB socket, which belongs to this object from now on. One thread calls all methods."""

    def __init__(self, context: zmq.Context[Any], publisher: zmq.Socket[bytes], linger_ms: int) -> None:
        self._publisher = publisher
        self._linger_ms = linger_ms
        self._queue = context.socket(zmq.PAIR)  # with as many notices as ZeroMQ queues by default
        self._queue.bind(_ADDRESS)
        self._queued = context.socket(zmq.PAIR)
        self._queued.connect(_ADDRESS)
        self._thread = threading.Thread(target=self._run, name="notice-sender", daemon=True)
        self._thread.start()

    def send(self, message: bytes) -> None:
        """Publish a notice to all subscribers; those that are slow miss it, and all do while the thread is held up."""
        with contextlib.suppress(zmq.Again):
            self._queue.send(message, zmq.NOBLOCK)

    def close(self) -> None:
        """Publish what is queued, and close."""
        self._queue.setsockopt(zmq.SNDTIMEO, _PATIENCE_MS)
        while self._thread.is_alive():
            with contextlib.suppress(zmq.Again):  # the queue is full
                self._queue.send(_END)
                break
        self._thread.join()
        self._queue.close(0)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they go to the main thread
        try:
            while (message := self._queued.recv()) != _END:
                self._publisher.send(message)
        finally:
            self._queued.close(0)
            self._publisher.close(self._linger_ms)

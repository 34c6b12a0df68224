"""A PUSH socket for one-shot tools: it waits for a listener, and at the end until everything was handed over."""

from __future__ import annotations

from typing import Any

import zmq

from ingest.exceptions import DeliveryError


class LineSender:
    """Sends messages to `address`; a context manager, for one thread.

    Raises `DeliveryError` when the address is none, when nobody listens within `timeout_s`, or when at the end not
    everything was handed to the other side within `timeout_s`.
    """

    def __init__(self, address: str, key: bytes | None = None, *, timeout_s: float = 5.0) -> None:
        self.count = 0
        self._address = address
        self._key = key
        self._timeout_ms = int(timeout_s * 1000)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.LINGER, self._timeout_ms)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise DeliveryError(
                f"{address!r} is no ZeroMQ address ({error.strerror}): allowed is tcp://HOST:PORT or ipc://PATH"
            ) from None

    def send(self, message: bytes) -> None:
        """Hand one message to ZeroMQ."""
        if not self._socket.poll(self._timeout_ms, zmq.POLLOUT):
            raise DeliveryError(
                f"nobody takes messages at {self._address} for {self._timeout_ms / 1000:g} s: is an ingester running?"
            )
        if self._key is not None:
            self._socket.send(self._key, zmq.SNDMORE)
        self._socket.send(message)
        self.count += 1

    def __enter__(self) -> LineSender:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._socket.close(linger=0 if kind else self._timeout_ms)
        self._context.term()

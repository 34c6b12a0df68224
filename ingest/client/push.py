"""The client that sends without waiting for an answer, as in 2011."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

import bson

from ..exceptions import DeliveryError, EventTooLargeError, QueueFullError
from ..transport import fork, gevent_wait
from ..transport.client_keys import ClientKeys
from ..transport.gevent_wait import BackgroundThread
from ..wire.event import MAX_MESSAGE_BYTES
from .push_connection import PushConnection

Event = Mapping[str, Any] | bytes  # a document, or one already encoded as BSON


_inherited: list[PushConnection] = []  # connections of the parent process: never used, never freed


class ZarkovClient:
    """Send events to an ingester's BSON socket without waiting for an answer.

    An event is queued as soon as an ingester has answered at `addr` and the queue of `high_water_count` messages has
    space. If that takes longer than `timeout_s`, `QueueFullError` is raised and the event is not queued. Queued events
    are sent in the background, even if the ingester is restarted in between. They are lost if this process ends first
    (see `flush` and `close`), or if the connection breaks while they are in transit. Use `AcknowledgedClient` for
    events that must arrive.

    Threads and greenlets can share a client, and so can processes after a fork: a child opens its own connection and
    leaves its parent's queue alone. No socket is opened before the first send.

    `key` is sent as first frame of each message, as in 2011. `keys` are needed if the ingester accepts only senders
    with keys.
    """

    def __init__(
        self,
        addr: str,
        *,
        key: bytes | None = None,
        keys: ClientKeys | None = None,
        high_water_count: int = 10_000,
        timeout_s: float = 5.0,
    ) -> None:
        self.addr = addr
        self._key = key
        self._keys = keys
        self._high_water_count = high_water_count
        self._timeout_s = timeout_s
        self._reset()
        fork.register(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # never held while waiting: greenlets of one thread share it
        self._connection: PushConnection | None = None
        self._closing: BackgroundThread | None = None

    def after_fork(self) -> None:
        if self._connection is not None:
            _inherited.append(self._connection)
        self._reset()

    def event(self, type: str, context: Mapping[str, Any], extra: Any = None) -> None:
        """Send one event, without `extra` if that is None; see `send`."""
        self.send(document(type, context, extra))

    def event_noval(self, type: str, context: Mapping[str, Any], extra: Any = None) -> None:
        """Send one event whose fields the ingester does not check."""
        self.send(document(type, context, extra) | {"$command": "event_noval"})

    def send(self, *events: Event) -> None:
        """Queue events as one message; block up to the client's `timeout_s`.

        Raise `QueueFullError` if the message could not be queued, `EventTooLargeError` if it exceeds the size limit,
        and an error from `bson.errors` if BSON cannot hold an event; in all these cases nothing was sent. Raise
        `DeliveryError` if an ingester that used to accept our keys now refuses them; queued events are lost then.
        """
        frames = [b"".join(map(encoded, events))]
        if len(frames[0]) > MAX_MESSAGE_BYTES:
            raise EventTooLargeError(
                f"a message of {len(frames[0])} bytes cannot be sent: the limit is {MAX_MESSAGE_BYTES}; send fewer "
                "events at once"
            )
        if self._key is not None:
            frames.insert(0, self._key)
        deadline: float | None = None
        while True:
            with self._lock:
                if self._connection is None:
                    self._connection = PushConnection(self.addr, self._high_water_count, self._keys)
                if self._connection.try_send(frames):
                    return
                self._drop_if_refused()
                connection, descriptor = self._connection, self._connection.descriptor
            now = time.monotonic()
            deadline = now + self._timeout_s if deadline is None else deadline
            if now >= deadline:
                raise self._full(connection)
            gevent_wait.wait_readable(descriptor, min(deadline - now, gevent_wait.SLICE_S))

    def _drop_if_refused(self) -> None:
        """Drop a connection that the ingester now refuses, and raise `DeliveryError`. The caller holds the lock."""
        if self._connection is not None and self._connection.broken:
            connection, self._connection = self._connection, None
            connection.close_in_background(0.0)
            raise DeliveryError(
                f"the ingester at {self.addr} now refuses the connection: {connection.fault} Recent events are lost",
                address=self.addr,
            )

    def _full(self, connection: PushConnection) -> QueueFullError:
        if connection.connected:
            fault = f"the queue of {self._high_water_count} messages is full"
        else:
            fault = connection.fault or "nothing listens there"
            with self._lock:  # ZeroMQ does not retry after some refusals
                if self._connection is connection:
                    self._connection = None
                    connection.close_in_background(0.0)
        return QueueFullError(
            f"no ingester accepted events at {self.addr} within {self._timeout_s:g} s, {fault}: is an ingester running "
            "there, and does its journal have space?",
            address=self.addr,
        )

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once every queued event has left this process; the next `send` opens a new connection.

        Raise `DeliveryError` after `timeout_s` (None = the client's); the rest is still sent in the background.
        """
        self._flush(self._timeout_s if timeout_s is None else timeout_s, drop=False)

    def close(self, timeout_s: float | None = None) -> None:
        """Flush, then close the connection. Can be called twice; a later `send` opens a new one.

        Raise `DeliveryError` if events are left after `timeout_s` (None = the client's); they are dropped.
        """
        self._flush(self._timeout_s if timeout_s is None else timeout_s, drop=True)

    def _flush(self, timeout_s: float, *, drop: bool) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                if self._closing is None and self._connection is not None:
                    self._drop_if_refused()
                    connection, self._connection = self._connection, None
                    self._closing = connection.close_in_background(timeout_s if drop else None)
                closing = self._closing
            if closing is None:
                return
            gone = closing.wait(deadline - time.monotonic())
            with self._lock:
                if self._closing is closing and (gone or drop):
                    self._closing = None
            if not gone:
                raise DeliveryError(
                    f"not everything was accepted at {self.addr} within {timeout_s:g} s: some of the last events "
                    + ("are lost" if drop else "are still waiting; flush again"),
                    address=self.addr,
                )

    def __enter__(self) -> ZarkovClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with contextlib.suppress(DeliveryError) if kind else contextlib.nullcontext():
            self.close()


def document(type_: str, context: Mapping[str, Any], extra: Any) -> dict[str, Any]:
    """Return the document of an event, without `extra` if that is None."""
    event = {"type": type_, "context": dict(context)}
    return event if extra is None else event | {"extra": extra}


def encoded(event: Event) -> bytes:
    return event if isinstance(event, bytes) else bson.encode(event)

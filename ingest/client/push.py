"""The client that sends without waiting for an answer, as in 2011."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

import bson

from .push_connection import PushConnection
from ..exceptions import DeliveryError, EventTooLargeError, QueueFullError
from ..transport import fork, gevent_wait
from ..transport.client_keys import ClientKeys
from ..transport.gevent_wait import BackgroundThread
from ..wire.event import MAX_MESSAGE_BYTES

Event = Mapping[str, Any] | bytes  # a document, or one already encoded as BSON


_of_parents: list[PushConnection] = []  # what a forked process got with its parent's memory: never used, never freed


class ZarkovClient:
    """Sends events to an ingester's BSON socket without waiting for an answer.

    An event is taken as soon as a listener has answered at `addr` and there is room in the queue of
    `high_water_count` messages. When that is not within `timeout_s`, `QueueFullError` says so, and the event was not
    taken. What was taken is sent in the background, also to an ingester that was restarted meanwhile; it is lost when
    this process ends first (see `flush` and `close`), or when the connection breaks just while it is in it. Events
    that must arrive go through `AcknowledgedClient`.

    May be shared by threads and greenlets, and by processes after a fork: a child opens a connection of its own, and
    what its parent had queued stays the parent's. No socket is made before the first send.

    `key` goes as first frame of each message, as in 2011; `keys` are for an ingester that takes only senders with keys.
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
        self._begin()
        fork.watch(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()  # never held while waiting: greenlets of one thread share it
        self._channel: PushConnection | None = None
        self._leaving: BackgroundThread | None = None

    def after_fork(self) -> None:
        """Begin anew in a child process."""
        if self._channel is not None:
            _of_parents.append(self._channel)
        self._begin()

    def event(self, type: str, context: Mapping[str, Any], extra: Any = None) -> None:
        """Send one event; `extra` is left out when it is None."""
        self.send(document(type, context, extra))

    def event_noval(self, type: str, context: Mapping[str, Any], extra: Any = None) -> None:
        """Send one event whose fields the ingester does not check."""
        self._command("event_noval", **document(type, context, extra))

    def _command(self, cmd: str, **kw: Any) -> None:
        """Send a command with its arguments."""
        self.send({**kw, "$command": cmd})

    def send(self, *events: Event) -> None:
        """Send events as one message. Raises `QueueFullError`, or `bson.errors` for what BSON cannot hold.

        Raises `EventTooLargeError` when they are more than a message may hold; nothing was sent then.

        Raises `DeliveryError` when a listener that had taken us refuses us now: what was queued is lost then.
        """
        frames = [b"".join(map(encoded, events))]
        if len(frames[0]) > MAX_MESSAGE_BYTES:
            raise EventTooLargeError(
                f"a message of {len(frames[0])} bytes cannot be sent: {MAX_MESSAGE_BYTES} are allowed; send fewer "
                "events at once"
            )
        if self._key is not None:
            frames.insert(0, self._key)
        deadline: float | None = None
        while True:
            with self._lock:
                if self._channel is None:
                    self._channel = PushConnection(self.addr, self._high_water_count, self._keys)
                if self._channel.offer(frames):
                    return
                self._refuse_a_broken_one()
                channel, descriptor = self._channel, self._channel.descriptor
            now = time.monotonic()
            deadline = now + self._timeout_s if deadline is None else deadline
            if now >= deadline:
                raise self._full(channel)
            gevent_wait.wait_readable(descriptor, min(deadline - now, gevent_wait.SLICE_S))

    def _refuse_a_broken_one(self) -> None:
        """Under the lock: let go of a channel that the listener refuses by now, and say so."""
        if self._channel is not None and self._channel.broken:
            channel, self._channel = self._channel, None
            channel.leave(0.0)
            raise DeliveryError(
                f"the ingester at {self.addr} refuses us by now: {channel.fault} Some of the last events are lost",
                address=self.addr,
            )

    def _full(self, channel: PushConnection) -> QueueFullError:
        if channel.connected:
            fault = f"the queue of {self._high_water_count} messages is full"
        else:
            fault = channel.fault or "there is no listener"
            with self._lock:  # ZeroMQ does not try again after some refusals
                if self._channel is channel:
                    self._channel = None
                    channel.leave(0.0)
        return QueueFullError(
            f"nobody takes events at {self.addr} for {self._timeout_s:g} s, {fault}: is an ingester running there, "
            "and has its journal room?",
            address=self.addr,
        )

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once everything that was sent has left this process; the next `send` opens a new connection.

        Raises `DeliveryError` after `timeout_s` (None = the client's); what has not left is sent on in the background.
        """
        self._leave(self._timeout_s if timeout_s is None else timeout_s, drop=False)

    def close(self, timeout_s: float | None = None) -> None:
        """Flush, and let go of the connection. May be called twice; a later `send` opens a new one.

        Raises `DeliveryError` when not everything has left within `timeout_s` (None = the client's): the rest is
        dropped.
        """
        self._leave(self._timeout_s if timeout_s is None else timeout_s, drop=True)

    def _leave(self, timeout_s: float, *, drop: bool) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                if self._leaving is None and self._channel is not None:
                    self._refuse_a_broken_one()
                    channel, self._channel = self._channel, None
                    self._leaving = channel.leave(timeout_s if drop else None)
                leaving = self._leaving
            if leaving is None:
                return
            gone = leaving.wait(deadline - time.monotonic())
            with self._lock:
                if self._leaving is leaving and (gone or drop):
                    self._leaving = None
            if not gone:
                raise DeliveryError(
                    f"not everything was taken at {self.addr} within {timeout_s:g} s: some of the last events "
                    + ("are lost" if drop else "are still waiting; flush again"),
                    address=self.addr,
                )

    def __enter__(self) -> ZarkovClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with contextlib.suppress(DeliveryError) if kind else contextlib.nullcontext():
            self.close()


def document(type_: str, context: Mapping[str, Any], extra: Any) -> dict[str, Any]:
    """An event's document; `extra` is left out when it is None."""
    event = {"type": type_, "context": dict(context)}
    return event if extra is None else event | {"extra": extra}


def encoded(event: Event) -> bytes:
    """An event as BSON."""
    return event if isinstance(event, bytes) else bson.encode(event)

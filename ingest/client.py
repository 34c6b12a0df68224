"""Sends events to an ingester. Needs pyzmq and bson, and nothing else of Zarkov's server side.

`ZarkovClient` sends and forgets, as in 2011: what is sent waits in ZeroMQ's queue until the ingester takes it.
`AcknowledgedClient` waits until the ingester has the events on disk. Both may be used by several threads, greenlets,
and processes after a fork at once; no socket is made before the first send.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import bson
import zmq
from bson.errors import BSONError

from ingest import green
from ingest.exceptions import BusyError, DeliveryError, QueueFullError

Event = Mapping[str, Any] | bytes  # a document, or one already encoded as BSON
REQUEST_BYTES = 4 * 2**20
REQUEST_EVENTS = 5_000
REQUESTS_UNDER_WAY = 8
IDLE_SOCKETS = 8


class ZarkovClient:
    """Sends events to an ingester's BSON socket without waiting for an answer.

    An event is taken as soon as there is a connection and room in the queue. When there is none within `timeout_s`,
    `QueueFullError` says so, and the event was not taken. What was taken is lost only if this process ends before it
    is sent (see `close`), or the ingester's machine dies before it is journalled.
    """

    def __init__(
        self, addr: str, *, key: bytes | None = None, high_water_count: int = 10_000, timeout_s: float = 5.0
    ) -> None:
        self.addr = addr
        self._key = key
        self._high_water_count = high_water_count
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._socket: Any = None
        self._pid = 0

    def event(self, type: str, context: Mapping[str, Any], extra: Any = None) -> None:
        """Send one event; `extra` is left out when it is None."""
        self.send(_event(type, context, extra))

    def event_noval(self, type: str, context: Mapping[str, Any], extra: Any = None) -> None:
        """Send one event whose fields the ingester does not check."""
        self._command("event_noval", **_event(type, context, extra))

    def _command(self, cmd: str, **kw: Any) -> None:
        """Send a command with its arguments."""
        self.send({**kw, "$command": cmd})

    def send(self, *events: Event) -> None:
        """Send events as one message. Raises `QueueFullError`, or `bson.errors` for what BSON cannot hold."""
        frames = [b"".join(map(_encoded, events))]
        if self._key is not None:
            frames.insert(0, self._key)
        with self._lock:
            socket = self._connected()
            if not socket.poll(int(self._timeout_s * 1000), zmq.POLLOUT):
                raise QueueFullError(
                    f"nobody takes events at {self.addr} for {self._timeout_s:g} s: is an ingester running there?",
                    address=self.addr,
                )
            socket.send_multipart(frames, zmq.NOBLOCK)

    def _connected(self) -> Any:
        if self._socket is None or self._pid != os.getpid():
            self._socket = green.context().socket(zmq.PUSH)
            self._socket.setsockopt(zmq.SNDHWM, self._high_water_count)
            self._socket.setsockopt(zmq.LINGER, int(self._timeout_s * 1000))
            self._socket.setsockopt(zmq.IMMEDIATE, 1)  # queue for an ingester that is there, not for a hope
            self._socket.connect(self.addr)
            self._pid = os.getpid()
        return self._socket

    def close(self, timeout_s: float | None = None) -> None:
        """Let go of the socket; ZeroMQ goes on sending what is queued for at most `timeout_s`. May be called twice."""
        with self._lock:
            if self._socket is not None and self._pid == os.getpid():
                self._socket.close(linger=int((self._timeout_s if timeout_s is None else timeout_s) * 1000))
            self._socket = None

    def __enter__(self) -> ZarkovClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of the events of one `send`."""

    accepted: int  # on the ingester's disk
    rejected: list[dict[str, Any]] = field(default_factory=list)  # {index, code, message}, index as they were sent


class AcknowledgedClient:
    """Sends events to an ingester's acknowledged socket and returns once they are on its disk.

    Each event without an `id` gets one, so that sending again stores nothing twice. A request that is not answered
    within `timeout_s` is sent again under the same ids, `attempts` times in all.
    """

    def __init__(
        self,
        addr: str,
        *,
        timeout_s: float = 5.0,
        attempts: int = 3,
        connect_timeout_s: float = 2.0,
        request_events: int = REQUEST_EVENTS,
    ) -> None:
        self.addr = addr
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._request_events = request_events
        self._connect_timeout_s = connect_timeout_s
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._pid = os.getpid()

    def send(self, events: Iterable[Event]) -> Receipt:
        """Send `events` in order, in as many requests as their size asks for, and return what became of them.

        Several requests are under way at once. Raises `BusyError` when the ingester's journal is full, `DeliveryError`
        when it is not there or does not answer. `error.data["unsent"]` then holds the events that are not known to be
        journalled, encoded and with their ids: pass them to `send` again. `error.data["receipt"]` is what was answered.
        """
        requests = list(_requests([_with_id(event) for event in events], self._request_events))
        answers: dict[int, dict[str, Any]] = {}
        try:
            self._send_all(requests, answers)
        except DeliveryError as error:
            error.data["unsent"] = [e for n, request in enumerate(requests) if n not in answers for e in request]
            error.data["receipt"] = _receipt(requests, answers)
            raise
        return _receipt(requests, answers)

    def _send_all(self, requests: list[list[bytes]], answers: dict[int, dict[str, Any]]) -> None:
        for _ in range(self._attempts):
            left = deque(n for n in range(len(requests)) if n not in answers)
            if not left:
                return
            if self._attempt(requests, left, answers):
                raise BusyError(f"the ingester at {self.addr} is busy: its journal is full; send again later")
        if len(answers) < len(requests):
            raise DeliveryError(
                f"the ingester at {self.addr} did not answer {self._attempts} times within {self._timeout_s:g} s; "
                "the events may or may not have arrived, send them again under the same ids"
            )

    def event(self, type: str, context: Mapping[str, Any], extra: Any = None) -> Receipt:
        """Send one event; see `send`."""
        return self.send([_event(type, context, extra)])

    def _attempt(self, requests: list[list[bytes]], left: deque[int], answers: dict[int, dict[str, Any]]) -> bool:
        """Send what is `left` over one socket and gather the answers; return whether the ingester was busy."""
        socket = self._checkout()
        try:
            under_way, busy = self._exchange(socket, requests, left, answers)
        except BaseException:
            socket.close(linger=0)
            raise
        if under_way:  # answers may still come, and would be taken for those of other requests' successors
            socket.close(linger=0)
        else:
            self._give_back(socket)
        return busy

    def _exchange(
        self, socket: Any, requests: list[list[bytes]], left: deque[int], answers: dict[int, dict[str, Any]]
    ) -> tuple[dict[bytes, int], bool]:
        """Return the requests that were not answered in time, and whether one was answered with busy."""
        if not socket.poll(int(min(self._connect_timeout_s, self._timeout_s) * 1000), zmq.POLLOUT):
            raise DeliveryError(f"no ingester listens at {self.addr}: start one, or correct the address")
        under_way: dict[bytes, int] = {}
        busy = False
        deadline = time.monotonic() + self._timeout_s
        while left or under_way:
            while left and len(under_way) < REQUESTS_UNDER_WAY:
                request_id = uuid.uuid4().bytes
                under_way[request_id] = left.popleft()
                socket.send_multipart([request_id, b"".join(requests[under_way[request_id]])], zmq.NOBLOCK)
            if not socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                break
            request_id, answer = self._answer(socket.recv_multipart())
            number = under_way.pop(request_id, None)
            if number is None:
                continue
            deadline = time.monotonic() + self._timeout_s
            if answer.get("busy"):
                busy = True
                left.clear()
            else:
                answers[number] = answer
        return under_way, busy

    def _answer(self, frames: list[bytes]) -> tuple[bytes, dict[str, Any]]:
        try:
            return frames[0], bson.decode(frames[1])
        except (BSONError, IndexError) as error:
            raise DeliveryError(f"what answers at {self.addr} is no ingester: {error}") from None

    def _checkout(self) -> Any:
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._idle = os.getpid(), []
            if self._idle:
                return self._idle.pop()
        socket = green.context().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.connect(self.addr)
        return socket

    def _give_back(self, socket: Any) -> None:
        with self._lock:
            if len(self._idle) < IDLE_SOCKETS:
                self._idle.append(socket)
                return
        socket.close(linger=0)

    def close(self) -> None:
        """Close idle sockets. A later `send` opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        if self._pid == os.getpid():
            for socket in idle:
                socket.close(linger=0)

    def __enter__(self) -> AcknowledgedClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _event(type_: str, context: Mapping[str, Any], extra: Any) -> dict[str, Any]:
    event = {"type": type_, "context": dict(context)}
    return event if extra is None else event | {"extra": extra}


def _encoded(event: Event) -> bytes:
    return event if isinstance(event, bytes) else bson.encode(event)


def _with_id(event: Event) -> bytes:
    if isinstance(event, bytes) or "id" in event:
        return _encoded(event)
    return bson.encode({**event, "id": uuid.uuid4().hex})


def _requests(events: list[bytes], most_events: int) -> Iterator[list[bytes]]:
    request: list[bytes] = []
    size = 0
    for event in events:
        if request and (size + len(event) > REQUEST_BYTES or len(request) >= most_events):
            yield request
            request, size = [], 0
        request.append(event)
        size += len(event)
    if request:
        yield request


def _receipt(requests: list[list[bytes]], answers: Mapping[int, dict[str, Any]]) -> Receipt:
    accepted, before = 0, 0
    rejected: list[dict[str, Any]] = []
    for number, request in enumerate(requests):
        if number in answers:
            accepted += answers[number]["accepted"]
            rejected += [refusal | {"index": refusal["index"] + before} for refusal in answers[number]["rejected"]]
        before += len(request)
    return Receipt(accepted, rejected)

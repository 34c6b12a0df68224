"""Attacks on ZeroMQ sockets. Each is a generator that does one thing per step, so that its caller sets the pace."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import bson
import zmq

from mapreduce.wire import message
from tests.abuse.targets import Targets
from tests.support.mapreduce.peer import HELLO

LARGE_BYTES = 15 * 2**20
SUBSCRIPTION_BYTES = 4_000
MEASUREMENT_BYTES = 4 * 2**20 - 10
SENDERS = 50
LEAVING_COUNT = 16
GREETING = b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03\0" + b"NULL".ljust(20, b"\0") + b"\0" * 32  # of ZMTP (RFC 23)

Attack = Callable[[Targets], Iterator[None]]


def tiny_json_lines(targets: Targets) -> Iterator[None]:
    """Push messages of half a million lines, none of which is an event."""
    return _pushed(targets.json, lambda: random.choice([b"1\n", b"{}\n", b"x\n", b'"\n']) * 2**19)


def tiny_bson_documents(targets: Targets) -> Iterator[None]:
    """Push messages of millions of empty documents."""
    return _pushed(targets.bson, lambda: b"\x05\0\0\0\0" * (LARGE_BYTES // 5))


def large_messages(targets: Targets) -> Iterator[None]:
    """Push the largest messages that are read at all, from many senders at once, with small ones in between."""
    small = bson.encode({"type": "hostile", "context": {"project": "x"}})
    return _large(zmq.PUSH, [targets.bson, targets.json], [os.urandom(LARGE_BYTES)] * 4 + [small])


def leaving_senders(targets: Targets) -> Iterator[None]:
    """Push the largest messages from senders that leave while these are on their way."""
    large = bson.encode({"type": "hostile", "extra": "x" * LARGE_BYTES})
    with _context() as context:
        senders: deque[Any] = deque()
        for number in count():
            sender = _socket(context, zmq.PUSH, (targets.bson, targets.json)[number % 2])
            senders.append(sender)
            for _ in range(2):
                sender.send(large)
            if len(senders) > LEAVING_COUNT:
                senders.popleft().close(0)
            yield


def large_requests(targets: Targets) -> Iterator[None]:
    """Send the router the largest requests and reports of workers that it reads, from many senders at once."""
    return _large(zmq.DEALER, [targets.requests, targets.workers], [os.urandom(LARGE_BYTES)])


def large_measurements(targets: Targets) -> Iterator[None]:
    """Publish the largest messages that the broker reads, from many publishers at once."""
    measurement = b"Batch" + os.urandom(MEASUREMENT_BYTES)
    return _written("PUB", [targets.publishers], lambda: _frame(measurement))


def many_subscriptions(targets: Targets) -> Iterator[None]:
    """Subscribe to endless lists of long topics, which ZeroMQ keeps for as long as a subscriber is connected."""
    addresses = [targets.notices, targets.backends]
    return _written(
        "SUB", addresses, lambda: b"".join(_frame(b"\1" + os.urandom(SUBSCRIPTION_BYTES)) for _ in range(50))
    )


def _written(kind: str, addresses: list[str], make: Callable[[], bytes]) -> Iterator[None]:
    """Write to many connections without ZeroMQ, which would keep all subscriptions here as well, in gigabytes."""
    peers = [_RawPeer(kind, addresses[number % len(addresses)]) for number in range(SENDERS)]
    try:
        for number in count():
            peers[number % SENDERS].write(make)
            yield
    finally:
        for each in peers:
            each.close()


def _frame(body: bytes) -> bytes:
    return b"\x02" + len(body).to_bytes(8, "big") + body


class _RawPeer:
    """A connection that writes ZMTP 3.0 (RFC 23) itself, and is made again once it was ended."""

    def __init__(self, kind: str, address: str) -> None:
        name = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind.encode()
        self._start = GREETING + b"\x04" + bytes([len(name)]) + name
        self._url = urlsplit(address)
        self._connection: socket.socket | None = None
        self._unsent = b""

    def write(self, make: Callable[[], bytes]) -> None:
        """Write what `make` returns, or go on with what was not written yet. Never wait."""
        try:
            if self._connection is None:
                self._connection = socket.create_connection((self._url.hostname, self._url.port), timeout=5)
                self._connection.setblocking(False)
                self._unsent = self._start
            self._unsent = self._unsent or make()
            with contextlib.suppress(BlockingIOError):
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
            with contextlib.suppress(BlockingIOError):
                if not self._connection.recv(2**20):
                    self.close()
        except OSError:
            self.close()

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _large(kind: int, addresses: list[str], messages: list[bytes]) -> Iterator[None]:
    with _context() as context:
        senders = [_socket(context, kind, addresses[number % len(addresses)]) for number in range(SENDERS)]
        for number in count():
            parts = [b""] * (kind == zmq.DEALER) + [messages[number % len(messages)]]
            with contextlib.suppress(zmq.Again):
                senders[number % SENDERS].send_multipart(parts, zmq.NOBLOCK)
            yield


def deaf_requests(targets: Targets) -> Iterator[None]:
    """Send acknowledged requests that get long answers, and never read one."""
    bad = bson.encode({"context": {}}) * 10_000
    with _context() as context:
        senders = [_socket(context, zmq.DEALER, targets.acknowledged) for _ in range(SENDERS)]
        for number in count():
            with contextlib.suppress(zmq.Again):
                senders[number % SENDERS].send_multipart([b"%d" % number, bad], zmq.NOBLOCK)
            yield


def rubbish(targets: Targets) -> Iterator[None]:
    """Send random bytes and deeply nested documents to every receiver."""
    deep_json = b'{"type":"x","context":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    deep_bson = bson.encode({})
    for _ in range(5_000):
        deep_bson = b"".join([(len(deep_bson) + 8).to_bytes(4, "little"), b"\x03a\0", deep_bson, b"\0"])
    surrogate = rb'{"type":"\ud800","context":{"\udfff":1}}'
    pieces = [deep_json, deep_bson, surrogate, b"\xff" * 1_000, b"[" * 100_000, b"{" * 100_000, b"\0" * 2**20]
    with _context() as context:
        sockets = [
            _socket(context, zmq.PUSH, targets.bson),
            _socket(context, zmq.PUSH, targets.json),
            _socket(context, zmq.DEALER, targets.acknowledged),
        ]
        for number in count():
            payload = random.choice([*pieces, os.urandom(random.randrange(100_000))])
            with contextlib.suppress(zmq.Again):
                sockets[number % 3].send_multipart([os.urandom(8), payload], zmq.NOBLOCK)
            yield


def malformed_notices(targets: Targets) -> Iterator[None]:
    """Send notices and commands whose fields have other types than they should."""
    values = [["x"], {}, None, -1, 2**62, "", "x" * 10_000, b"", 1.5, True]
    names = ["agg_complete", "committed", "event_noval", "event_restored", "terminate", "config", ["agg_complete"]]
    fields = ["name", "through", "docs", "count", "type", "context"]
    with _context() as context:
        sender = _socket(context, zmq.DEALER, targets.acknowledged)
        pusher = _socket(context, zmq.PUSH, targets.bson)
        for number in count():
            command = {name: random.choice(values) for name in random.sample(fields, 3)}
            raw = bson.encode({"$command": random.choice(names), **command})
            with contextlib.suppress(zmq.Again):
                sender.send_multipart([b"%d" % number, raw], zmq.NOBLOCK)
                pusher.send(raw, zmq.NOBLOCK)
            yield


def half_connections(targets: Targets) -> Iterator[None]:
    """Open connections that stop in the middle of the greeting (RFC 23) or of a message, and let some of them go."""
    ready = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH"
    large_frame = b"\x02" + (2**40).to_bytes(8, "big") + b"x" * 1_000
    starts = [
        b"",
        b"\xff",
        GREETING[:30],
        GREETING,
        GREETING + ready,
        GREETING + ready + large_frame,
        b"GET / HTTP/1.1",
    ]
    addresses = [targets.bson, targets.json, targets.acknowledged, targets.requests, targets.workers]
    open_ones: list[socket.socket] = []
    try:
        while True:
            url = urlsplit(random.choice(addresses))
            with contextlib.suppress(OSError):
                connection = socket.create_connection((url.hostname, url.port), timeout=5)
                connection.sendall(random.choice(starts))
                open_ones.append(connection)
            if len(open_ones) > 200:
                open_ones.pop(random.randrange(200)).close()
            yield
    finally:
        for connection in open_ones:
            connection.close()


def bad_metrics(targets: Targets) -> Iterator[None]:
    """Publish what is no measurement, and measurements with absurd values and names."""
    lines = [b"", b"|", b"x|counter|a|1e999|0|s", b"x|counter|" + b"n" * 2**20 + b"|1|1|s", os.urandom(2**20)]
    lines += [f"default|gauge|{'g' * 200}.{n}|nan|1|s".encode() for n in range(20)]
    return _sent(targets.publishers, zmq.PUB, lambda: [random.choice(lines)])


def bad_requests(targets: Targets) -> Iterator[None]:
    """Send the router requests that mean nothing, and never read the answers."""
    large = bson.encode({"$command": "echo", "x": b"x" * (8 * 2**20)})
    others = [
        b"", b"\0", os.urandom(1_000), bson.encode({}), bson.encode({"$command": "mapreduce"}),
        bson.encode({"$command": ["status"], "job_id": {}}),
        bson.encode({"$command": "status", "job_id": "a\nb ERROR c"}),
        bson.encode({"$command": "basic", "function": "os:system", "args": ["true"]}),
    ]  # fmt: skip
    return _sent(
        targets.requests, zmq.DEALER, lambda: [b"", large if random.random() < 0.02 else random.choice(others)]
    )


def false_workers(targets: Targets) -> Iterator[None]:
    """Join the router as idle workers that send heartbeats and answer steps not at all, or with nonsense."""
    with _context() as context:
        workers = [_socket(context, zmq.DEALER, targets.workers) for _ in range(3)]
        for number, worker in enumerate(workers):
            hello = {**HELLO, "name": f"false-{number}:1", "slots": 4, "idle": 4, "spare": 1}
            worker.send_multipart(message.pack(message.HELLO, {**hello, "versions": message.versions()}))
        while True:
            for number, worker in enumerate(workers):
                with contextlib.suppress(zmq.Again):
                    while True:
                        frames = worker.recv_multipart(zmq.NOBLOCK)
                        if number:
                            worker.send_multipart(_nonsense(frames), zmq.NOBLOCK)
                beat: dict[str, Any] = {"idle": 4, "spare": 1, "running": []}
                with contextlib.suppress(zmq.Again):
                    worker.send_multipart(message.pack(message.BEAT, beat), zmq.NOBLOCK)
            yield


def _nonsense(frames: list[bytes]) -> list[bytes]:
    kind, header, _ = message.unpack(frames)
    if kind != message.TASK:
        return message.pack(message.READY, {})
    answer = {"attempt": header["attempt"], "job": header["job"]}
    return random.choice(
        [
            message.pack(message.DONE, {**answer, "result": {"splits": [{"low": []}]}, "held": None}),
            message.pack(message.DONE, {**answer, "result": {}, "held": None}),
            message.pack(message.BROKEN, {**answer, "why": "a\nforged line"}),
            message.pack(message.FAILED, {**answer, "error": {"code": 5}}),
            message.pack(message.PROGRESS, {**answer, "docs": 10**15, "phase": "commit"}),
        ]
    )


def _pushed(address: str, make: Callable[[], bytes]) -> Iterator[None]:
    return _sent(address, zmq.PUSH, lambda: [make()])


def _sent(address: str, kind: int, make: Callable[[], list[bytes]]) -> Iterator[None]:
    """Send what `make` returns, one message per step unless the other side holds us up."""
    with _context() as context:
        sender = _socket(context, kind, address)
        while True:
            with contextlib.suppress(zmq.Again):
                sender.send_multipart(make(), zmq.NOBLOCK)
            yield


@contextlib.contextmanager
def _context() -> Iterator[Any]:
    context: zmq.Context[Any] = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(0)


def _socket(context: Any, kind: int, address: str) -> Any:
    opened = context.socket(kind)
    opened.set(zmq.LINGER, 0)
    opened.set(zmq.SNDHWM, 2)
    opened.connect(address)
    return opened


ATTACKS: dict[str, tuple[Attack, float]] = {  # with the seconds between two steps
    "tiny_json_lines": (tiny_json_lines, 1.0),
    "tiny_bson_documents": (tiny_bson_documents, 3.0),
    "large_messages": (large_messages, 0.1),
    "leaving_senders": (leaving_senders, 0.03),
    "large_requests": (large_requests, 0.1),
    "many_subscriptions": (many_subscriptions, 0.05),
    "large_measurements": (large_measurements, 0.1),
    "deaf_requests": (deaf_requests, 0.5),
    "rubbish": (rubbish, 0.3),
    "malformed_notices": (malformed_notices, 0.1),
    "half_connections": (half_connections, 0.05),
    "bad_metrics": (bad_metrics, 0.05),
    "bad_requests": (bad_requests, 0.05),
    "false_workers": (false_workers, 0.2),
}

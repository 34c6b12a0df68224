"""The receivers of an ingester: BSON and JSON events, acknowledged requests. They also publish notices.

A receiver is a socket, with a reader that turns messages into batches for the journal.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import bson
import gevent
import zmq

from ingest.server.backpressure import BackPressure
from ingest.server.delivery import delivered
from ingest.server.journal_writer import JournalWriter, PendingWrite
from ingest.server.loop_turn import loop_turn
from ingest.server.notice_sender import NoticeSender
from ingest.server.push_reader import PUSH_READERS, Reader, without_mark
from ingest.server.request_queue import RequestQueue
from ingest.server.socket_reader import DRAIN_BYTES, SocketReader, bind, bound_address, drain, receive_frames
from ingest.settings import IngestSettings
from ingest.transport import kernel_socket, socket_drain
from ingest.transport.awake_clock import AwakeClock
from ingest.transport.hold_decision import MAY_BE_DROPPED, Progress
from ingest.transport.memory_limit import MemoryLimit
from ingest.transport.notice import NOTICES
from ingest.transport.server_keys import Authenticator
from ingest.turn import PAUSE_S, Turn
from ingest.wire import bson_reader, reader_failure
from ingest.wire.ack_request import OWN_SOURCE, read_request, refusals
from ingest.wire.batch import ReceivedBatch
from ingest.wire.command_check import REFUSED

log = logging.getLogger(__name__)

REQUESTS_AT_ONCE = 64  # acknowledged requests read before other greenlets run
OVERTAKING_BYTES = 2**16  # up to this size a request is answered while a longer one of another sender is read
# Requests that wait here instead of in ZeroMQ's queues, where they take as much memory, so that short ones are found
# among them. They count as read once they are handled.
DEFERRED_BYTES, DEFERRED_COUNT = 2**26, 10_000
LAST_ANSWERS_MS = 500  # at stop: for answers and notices to leave
BALANCER_WITHIN_S = 10.0  # at stop: a load balancer that sends nothing for this long hangs


class Receivers:
    """The sockets of one ingester. `bind`, `start`, then `drain_sockets` and `close`, all in the loop's thread.

    `addresses` has the bound addresses by key of the settings.
    """

    def __init__(self, settings: IngestSettings, now_ms: Callable[[], int]) -> None:
        self.addresses: dict[str, str] = {}
        self._settings = settings
        self._now_ms = now_ms
        self._context: zmq.Context[Any] = zmq.Context()
        self._authenticator: Authenticator | None = None
        self._readers: list[SocketReader] = []
        self._pushed: dict[str, SocketReader] = {}  # those of `PUSH_READERS`, by key of the settings
        self._notices: NoticeSender | None = None
        self._memory_limit = MemoryLimit({})
        self._overtaking = False  # while a request is handled during a longer one
        self._deferred = RequestQueue(settings.hops + 1)  # those that were received meanwhile, but cannot overtake
        self._ended: set[zmq.Socket[bytes]] = set()  # those whose end mark the load balancer has sent
        self._clock = AwakeClock()
        self._pushed_at = 0.0  # of this clock

    def bind(self) -> None:
        """Bind all sockets. Raise `BindError` if an address is taken."""
        self._authenticator = Authenticator(self._context, self._settings.curve)
        for key, read in PUSH_READERS.items():
            self._pushed[key] = SocketReader(self._bound(key, zmq.PULL), partial(self._receive_pushed, key, read))
            self._readers.append(self._pushed[key])
        self._acknowledged = SocketReader(self._bound("ack_bind_address", zmq.ROUTER), self._receive_acknowledged)
        self._readers.append(self._acknowledged)
        publisher = self._bound("publish_bind_address", zmq.PUB)
        self._notices = NoticeSender(self._context, publisher, LAST_ANSWERS_MS)

    def _bound(self, key: str, kind: int) -> zmq.Socket[bytes]:
        socket = bind(self._context, kind, key, getattr(self._settings, key), self._settings.curve)
        self.addresses[key] = bound_address(socket)
        return socket

    def start(
        self,
        writer: JournalWriter,
        call: Callable[[Callable[[], None]], None],
        later: Callable[[float, Callable[[], None]], object],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Start reading into `writer`.

        `call(function)` lets the writer's thread have an answer sent in the loop; `later(seconds, function)` calls in
        the loop. `on_failure` is called with the error that ends a receiver.
        """
        self._writer = writer
        self._call = call
        self.back_pressure = BackPressure(self._readers, self._acknowledged, writer, later)
        progress = {bound_address(each.socket): each.progress for each in self._pushed.values()}
        progress[bound_address(self._acknowledged.socket)] = self._acknowledged_progress
        progress[self.addresses["publish_bind_address"]] = lambda: MAY_BE_DROPPED  # subscribers are held, too
        self._memory_limit = MemoryLimit(progress)
        self._memory_limit.start()
        for reader in self._readers:
            reader.start(on_failure)

    def _acknowledged_progress(self) -> Progress:
        """Return how far the reading of requests is; while the journal is full, no large one is worth its memory."""
        found = self._acknowledged.progress()
        return found.without_turns() if self._writer.full else found

    def publish(self, message: bytes) -> None:
        """Publish a notice to all subscribers; one that is slow misses it."""
        assert self._notices is not None
        self._notices.send(message)

    def wait_for_load_balancer(self, failed: Callable[[], bool]) -> None:
        """Keep reading until the load balancer has sent its end mark, is gone or sends nothing, or `failed()`."""
        addresses = [self.addresses[key] for key in PUSH_READERS]
        self._pushed_at = self._clock.tick()
        while not failed() and len(self._ended) < len(addresses):
            silent_s = self._clock.tick() - self._pushed_at
            if silent_s > BALANCER_WITHIN_S or not all(map(kernel_socket.connected, addresses)):
                return
            gevent.sleep(0.02)

    def drain_sockets(self) -> None:
        """Read what senders have sent, then stop reading; senders keep the rest."""
        self._memory_limit.end_held()
        self.back_pressure.stop()
        for reader in self._readers:
            reader.stop()
        with reader_failure.logged("the last requests"):
            while not self._writer.congested and self._receive_acknowledged(self._acknowledged.socket):
                pass
        for key, reader in self._pushed.items():
            with reader_failure.logged(f"the last messages of {key}"):
                socket_drain.read_all(reader.socket, self.addresses[key], partial(reader.receive, reader.socket))
            reader.socket.close(linger=0)  # now its senders reconnect

    def close(self) -> None:
        """Close all sockets, after the last answers and notices have left."""
        self._memory_limit.stop()
        for reader in self._readers:
            reader.stop()
            reader.socket.close(linger=LAST_ANSWERS_MS)
        if self._notices is not None:
            self._notices.close()
        if self._authenticator is not None:
            self._authenticator.close()
        self._context.term()

    def _receive_pushed(self, key: str, read: Reader, socket: zmq.Socket[bytes]) -> int:
        with loop_turn() as turn:
            messages = drain(socket, turn)
            if messages:
                self._count(self._pushed[key], messages)
                rest = without_mark(messages, self._settings.end_mark)
                if rest is not messages:
                    self._ended.add(socket)
                if rest:
                    self._pushed_at = self._clock.tick()
                batch = read(rest, self._now_ms(), turn)
                self._forward_notices(batch, turn)
                self._put(batch)
        return len(messages)

    def _receive_acknowledged(self, socket: zmq.Socket[bytes]) -> bool:
        """Read at most `REQUESTS_AT_ONCE` waiting requests, so that they are journalled as one group."""
        size = 0
        for _ in range(REQUESTS_AT_ONCE):
            frames = self._next_request(socket)
            if frames is None:
                return False
            size += sum(map(len, frames))
            self._handle_request(frames)
            if size > DRAIN_BYTES or self._acknowledged.paused:
                break
        return True

    def _count(self, reader: SocketReader, messages: Sequence[bytes]) -> None:
        if reader.count(messages):
            self._memory_limit.large_was_read()

    def _next_request(self, socket: zmq.Socket[bytes]) -> list[bytes] | None:
        """Return the frames of the next request, or None if none is waiting."""
        if self._deferred:
            return self._deferred.pop()
        try:
            return self._received()
        except zmq.Again:
            return None

    def _received(self) -> list[bytes]:
        """Return the frames of the next request on the socket. Raise `zmq.Again` if none is waiting."""
        return receive_frames(self._acknowledged.socket, Turn(partial(gevent.sleep, PAUSE_S)))

    def _handle_others(self, sender: tuple[bytes, ...]) -> None:
        """Answer short requests of other senders while a long one is read; each sender's own stay in order."""
        if self._overtaking:
            return
        self._overtaking = True
        try:
            for _ in range(REQUESTS_AT_ONCE):
                is_full = self._deferred.size_bytes > DEFERRED_BYTES or len(self._deferred) >= DEFERRED_COUNT
                if is_full or self._acknowledged.paused:
                    return
                frames = self._received()
                found = self._deferred.sender(frames)
                must_wait = found == sender or self._deferred.has_request_of(found)
                if must_wait or sum(map(len, frames)) > OVERTAKING_BYTES:
                    self._deferred.append(frames)
                else:
                    self._handle_request(frames)
        except zmq.Again:
            return
        finally:
            self._overtaking = False

    def _handle_request(self, frames: list[bytes]) -> None:
        self._count(self._acknowledged, frames)
        try:
            request = read_request(frames, self._settings.hops)
        except Exception as error:  # noqa: BLE001 - the request's edge: it is quarantined, and the next one is read
            reader_failure.log_failure("a request", error)
            batch = ReceivedBatch(OWN_SOURCE)
            batch.refuse(
                reader_failure.READER_FAILED,
                f"the ingester itself failed on its frames: {error!r:.200}",
                b"".join(frames[1:]),
            )
            self._put(batch)
            return
        if request is None:
            return
        if self._writer.full:
            self._reply(request.envelope, {"busy": True})
            return
        batch = ReceivedBatch(request.source, NOTICES | {REFUSED})
        payload, now_ms = request.payload, self._now_ms()
        with loop_turn(partial(self._handle_others, self._deferred.sender(frames))) as turn:
            if payload:
                reader_failure.refuse_on_failure(
                    lambda: bson_reader.read_message(payload, batch, now_ms, turn), batch, payload
                )
            answer = {"accepted": len(batch.events), "rejected": [refusal.to_wire() for refusal in batch.refusals]}
            for refusal in refusals(turn.between(batch.commands)):
                batch.add_refusal(refusal)
            batch.refusals = delivered(batch, payload)
            self._forward_notices(batch, turn)
            if batch.empty:
                self._reply(request.envelope, answer)
            else:
                self._put(batch, lambda: self._call(partial(self._reply, request.envelope, answer)))

    def _forward_notices(self, batch: ReceivedBatch, turn: Turn) -> None:
        """Publish notices that other processes sent, so that one address carries all notices."""
        for command in turn.between(batch.commands):
            if command["$command"] in NOTICES:
                try:
                    self.publish(bson.encode(command))
                except Exception as error:  # noqa: BLE001 - a notice is only a hint and can be lost
                    reader_failure.log_failure("a notice", error)

    def _put(self, batch: ReceivedBatch, on_durable: Callable[[], None] | None = None) -> None:
        if batch.empty:
            return
        self._writer.put(PendingWrite(batch, on_durable))
        self.back_pressure.apply()

    def _reply(self, envelope: Sequence[bytes], answer: dict[str, Any]) -> None:
        with contextlib.suppress(zmq.ZMQError):  # a client that is full or gone sends its request again
            self._acknowledged.socket.send_multipart([*envelope, bson.encode(answer)], zmq.NOBLOCK)
        self._acknowledged.recheck()

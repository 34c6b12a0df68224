"""The ingester: receivers, journal writer and committer as one object with `start`, `run` and `stop`.

Sockets live in the gevent loop of the thread that calls `start` and `run`. Journal and MongoDB are served by other
threads, which answer through the loop's async watcher. Nothing is monkey-patched.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import bson
import gevent
import zmq
from gevent.event import Event
from gevent.hub import get_hub

from ingest.exceptions import JournalError, JournalLockedError, PartFailedError
from ingest.journal.journal import Journal, journal_folders
from ingest.server.backdoor import check_backdoor, open_backdoor
from ingest.server.committer import Committer
from ingest.server.counters import Counters
from ingest.server.journal_writer import Delivery, JournalWriter
from ingest.server.push_reader import PUSH_READERS, Reader, without_mark
from ingest.server.receiver import DRAIN_BYTES, Receiver, bind, bound_address, drain
from ingest.settings import IngestSettings
from ingest.store.store import Store, Watermark, connect
from ingest.transport import notice, socket_drain
from ingest.transport.notice import NOTICES
from ingest.transport.server_keys import Authenticator
from ingest.wire import bson_reader, error_boundary
from ingest.wire.batch import ReceivedBatch
from ingest.wire.request import OWN_SOURCE, REFUSED, read_request, refusals

log = logging.getLogger(__name__)

ADOPT_EVERY_S = 5.0
BEAT_S = 0.5
DRAIN_WITHIN_S = 3.0  # at stop: what is journalled but not in MongoDB by then waits for the next start
REQUESTS_AT_ONCE = 64  # acknowledged requests read before other greenlets run
LAST_ANSWERS_MS = 500  # at stop: for answers and notices to leave
CONGESTED_PAUSE_S = 0.01
BALANCER_WITHIN_S = 10.0  # at stop: for the load balancer to say that it has handed on everything


class Ingester:
    """One ingester process. `start` binds and reads, `run` returns after `stop`; `stop` can be called twice.

    `start` raises `BindError` if an address is taken and `JournalError` if no journal can be created. It does not need
    MongoDB, which the committer waits for. All methods belong to one thread, except `request_stop`.
    """

    def __init__(
        self,
        settings: IngestSettings,
        *,
        store: Store | None = None,
        rebind: bool = False,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.settings = settings
        self._now_ms = clock_ms  # only for events without a timestamp
        self.counters = Counters()
        self.addresses: dict[str, str] = {}
        self._store = store or connect(settings.mongo_address, settings.mongo_database)
        self._rebind = rebind
        self._context: zmq.Context[Any] = zmq.Context()
        self._authenticator: Authenticator | None = None
        self._receivers: list[Receiver] = []
        self._journal: Journal | None = None
        self._calls: deque[Callable[[], None]] = deque()
        self._stop_requested = Event()
        self._started = self._stopped = False
        self._failure: PartFailedError | None = None
        self._ended: set[zmq.Socket[bytes]] = set()  # receivers whose end mark the load balancer has sent
        self._beat_s = time.monotonic()

    def start(self) -> None:
        """Bind, create a journal, adopt those that no process holds, and start reading."""
        hub = get_hub()
        self._async = hub.loop.async_()
        self._async.start(self._run_calls)
        try:
            check_backdoor(self.settings.backdoor)
            self._bind()
            self._journal = Journal.create(self.settings.journal)
        except BaseException:
            self._close_sockets()
            self._async.close()
            raise
        self.committer = Committer(
            self._store,
            self.settings,
            self.counters,
            self._on_settled,
            rebind=self._rebind,
            is_full=lambda: self.writer.full,
            silent_s=lambda: time.monotonic() - self._beat_s,
            on_failure=self._part_failed,
        )
        self.writer = JournalWriter(
            self._journal,
            self.counters,
            sync=self.settings.journal.sync,
            record_events=self.settings.block_events,
            on_written=self._written,
            on_space=lambda: self._call(self._release_receivers),
            on_failure=self._part_failed,
        )
        self.adopt()
        self.committer.add(self._journal, adopted=False)
        self.writer.start()
        self.committer.start()
        for receiver in self._receivers:
            receiver.start(partial(self._part_failed, "a receiver"))
        self._adopter = self._spawn(0.0, self._adopt_forever)
        self._pulse = self._spawn(0.0, self._beat_forever)
        self._backdoor = open_backdoor(self.settings.backdoor, {"ingester": self})
        self._started = True

    def run(self) -> None:
        """Serve until `stop` or `request_stop` is called and the load balancer, if any, has handed on everything.

        Raise `PartFailedError` if a part failed, after everything else was stopped in order.
        """
        self._stop_requested.wait()
        self._wait_for_load_balancer()
        self.stop()
        if self._failure is not None:
            raise self._failure

    def request_stop(self) -> None:
        """Make `run` return. Can be called from any thread."""
        self._call(self._stop_requested.set)

    def stop(self) -> None:
        """Stop reading, write and commit what was received, and release everything, within a few seconds."""
        if not self._started or self._stopped:
            return
        self._stopped = True
        self._stop_requested.set()
        self._adopter.kill()
        self._pulse.kill()
        if self._backdoor is not None:
            self._backdoor.stop(timeout=0)
        self._read_the_rest()
        if self.settings.end_mark:
            self.adopt()  # what the load balancer wrote itself, and what siblings left
        pool = get_hub().threadpool
        deadline = time.monotonic() + DRAIN_WITHIN_S
        written = pool.apply(self.writer.stop, (DRAIN_WITHIN_S,))
        if not written:
            log.error("the journal could not be written: what was received last and not acknowledged is lost")
        drained = pool.apply(self.committer.stop, (max(0.2, deadline - time.monotonic()),))
        gevent.sleep(0)
        self._run_calls()  # the last answers and notices
        self._close_sockets()
        self._async.close()
        self._close_journal(written and drained)
        self._store.connection.close()

    def _close_journal(self, all_done: bool) -> None:
        assert self._journal is not None
        if all_done:
            with contextlib.suppress(JournalError):
                self._journal.finish()
        self.committer.dispatcher.release_journals()

    def _bind(self) -> None:
        receivers: Sequence[tuple[str, int, Callable[[zmq.Socket[bytes]], bool] | None]] = (
            *((key, zmq.PULL, partial(self._receive_pushed, read)) for key, read in PUSH_READERS.items()),
            ("ack_bind_address", zmq.ROUTER, self._receive_acknowledged),
            ("publish_bind_address", zmq.PUB, None),
        )
        self._authenticator = Authenticator(self._context, self.settings.curve)
        for key, kind, receive in receivers:
            socket = bind(self._context, kind, key, getattr(self.settings, key), self.settings.curve)
            self.addresses[key] = bound_address(socket)
            if receive is None:
                self._publisher = socket
                continue
            receiver = Receiver(socket, receive)
            self._receivers.append(receiver)
            if kind == zmq.ROUTER:
                self._acknowledged = receiver

    def _close_sockets(self) -> None:
        for receiver in self._receivers:
            receiver.stop()
            receiver.socket.close(linger=LAST_ANSWERS_MS)
        if hasattr(self, "_publisher"):
            self._publisher.close(linger=LAST_ANSWERS_MS)
        if self._authenticator is not None:
            self._authenticator.close()
        self._context.term()

    def _wait_for_load_balancer(self) -> None:
        """Keep serving until the load balancer has sent its end mark or is gone: a signal can reach both."""
        receivers = [self.addresses[key] for key in PUSH_READERS] if self.settings.end_mark else []
        deadline = time.monotonic() + BALANCER_WITHIN_S
        if receivers and self._journal is not None:
            self._journal.lift_bound()
        while self._failure is None and len(self._ended) < len(receivers) and time.monotonic() < deadline:
            if not all(map(socket_drain.connected, receivers)):
                return
            gevent.sleep(0.02)

    def _read_the_rest(self) -> None:
        """Read what senders have sent, and leave the rest with them. The journal takes it even if it is full."""
        assert self._journal is not None
        self._journal.lift_bound()
        for receiver in self._receivers:
            receiver.stop()
            with contextlib.suppress(Exception):  # an error that ended the receiver was logged
                if receiver is self._acknowledged:
                    while not self.writer.congested and receiver.receive(receiver.socket):
                        pass
                    continue
                if not socket_drain.read_all(bound_address(receiver.socket), partial(self._take_some, receiver)):
                    log.warning("sender does not pause, its last messages are lost")
                receiver.socket.close(linger=0)  # now its senders reconnect

    def _take_some(self, receiver: Receiver) -> bool | None:
        if not self.writer.congested:
            return receiver.receive(receiver.socket)
        time.sleep(CONGESTED_PAUSE_S)
        return None

    def _receive_pushed(self, read: Reader, socket: zmq.Socket[bytes]) -> bool:
        messages = drain(socket)
        if messages:
            rest = without_mark(messages, self.settings.end_mark)
            if rest is not messages:
                self._ended.add(socket)
            batch = read(rest, self._now_ms())
            self._forward_notices(batch)
            self._put(batch)
        return bool(messages)

    def _receive_acknowledged(self, socket: zmq.Socket[bytes]) -> bool:
        """Take at most `REQUESTS_AT_ONCE` waiting requests, so that they go to the journal in one group."""
        size = 0
        for _ in range(REQUESTS_AT_ONCE):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            size += sum(map(len, frames))
            self._take_request(frames)
            if size > DRAIN_BYTES or self._acknowledged.held:
                break
        return True

    def _take_request(self, frames: list[bytes]) -> None:
        try:
            request = read_request(frames, self.settings.hops)
        except Exception as error:  # noqa: BLE001 - the request's edge: it is kept, and the next one is read
            error_boundary.say("a request", error)
            batch = ReceivedBatch(OWN_SOURCE)
            batch.refuse(
                error_boundary.CODE, f"the ingester itself failed on its frames: {error!r:.200}", b"".join(frames[1:])
            )
            self._put(batch)
            return
        if request is None:
            return
        if self.writer.full:
            self._reply(request.envelope, {"busy": True})
            return
        batch = ReceivedBatch(request.source, NOTICES | {REFUSED})
        payload, now_ms = request.payload, self._now_ms()
        if payload:
            error_boundary.guarded(lambda: bson_reader.read_message(payload, batch, now_ms), batch, payload)
        answer = {"accepted": len(batch.events), "rejected": [refusal.to_wire() for refusal in batch.refusals]}
        for refusal in refusals(batch.commands):
            batch.refuse(refusal.code, refusal.message, refusal.raw)
        self._forward_notices(batch)
        if batch.empty:
            self._reply(request.envelope, answer)
            return
        self._put(batch, lambda: self._calls.append(partial(self._reply, request.envelope, answer)))

    def _forward_notices(self, batch: ReceivedBatch) -> None:
        """Publish notices that other processes sent, so that one address carries all notices."""
        for command in batch.commands:
            if command["$command"] in NOTICES:
                try:
                    self._publisher.send(bson.encode(command), zmq.NOBLOCK)
                except Exception as error:  # noqa: BLE001 - a notice is only a hint and can be lost
                    error_boundary.say("a notice", error)

    def _put(self, batch: ReceivedBatch, on_durable: Callable[[], None] | None = None) -> None:
        if batch.empty:
            return
        self.writer.put(Delivery(batch, on_durable))
        if self.writer.congested:
            self._hold_receivers()

    def _reply(self, envelope: Sequence[bytes], answer: dict[str, Any]) -> None:
        with contextlib.suppress(zmq.ZMQError):  # a client that is full or gone sends its request again
            self._acknowledged.socket.send_multipart([*envelope, bson.encode(answer)], zmq.NOBLOCK)
        self._acknowledged.nudge()

    def _hold_receivers(self) -> None:
        """Apply back-pressure. The acknowledged receiver goes on answering busy while the journal is full."""
        for receiver in self._receivers:
            if receiver is not self._acknowledged or not self.writer.full:
                receiver.hold()
        if not any(receiver.held for receiver in self._receivers):
            return
        self._spawn(0.05, self._release_or_hold)

    def _release_or_hold(self) -> None:
        if self._stopped:
            return
        if self.writer.congested:
            if self.writer.full:
                self._acknowledged.release()
            self._spawn(0.05, self._release_or_hold)
        else:
            self._release_receivers()

    def _release_receivers(self) -> None:
        if not self.writer.congested:
            for receiver in self._receivers:
                if receiver.held:
                    receiver.release()

    def _call(self, function: Callable[[], None]) -> None:
        """Run `function` in the loop's thread. Can be called from any thread."""
        self._calls.append(function)
        self._async.send_ignoring_arg(None)

    def _written(self) -> None:
        """Send the answers of a group that is on disk, all at once. Called from the writer's thread."""
        if self._calls:
            self._async.send_ignoring_arg(None)
        self.committer.wake()

    def _run_calls(self) -> None:
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception as error:  # noqa: BLE001 - the loop's edge: logged, and the others are called
                error_boundary.say("an answer or a notice", error)

    def _spawn(self, after_s: float, function: Callable[[], None]) -> gevent.Greenlet:
        greenlet = gevent.spawn_later(after_s, function)
        greenlet.link_exception(lambda ended: self._part_failed(function.__name__.strip("_"), ended.exception))
        return greenlet

    def _part_failed(self, part: str, error: BaseException) -> None:
        """End the process, since half an ingester only looks alive. Can be called from any thread."""
        log.critical("ingester failed, the process ends and must be restarted part=%s", part, exc_info=error)
        if self._failure is None:
            self._failure = PartFailedError(f"{part} failed: {type(error).__name__}: {error!s:.300}")
        self._call(self._stop_requested.set)

    def _beat_forever(self) -> None:
        """Show the other threads that the loop runs, and so do the receivers."""
        while True:
            self._beat_s = time.monotonic()
            gevent.sleep(BEAT_S)

    def _on_settled(self, watermark: Watermark, count: int) -> None:
        """Publish a notice. Called from an inserter thread."""
        self._call(lambda: self._publish(watermark.through, count))

    def _publish(self, through: int, count: int) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self._publisher.send(notice.committed(through, count), zmq.NOBLOCK)

    def adopt(self) -> None:
        """Take over every journal in the journal folder that no process holds."""
        for folder in journal_folders(self.settings.journal.folder):
            if self._journal is not None and folder == self._journal.folder:
                continue
            try:
                journal = Journal.adopt(folder, self.settings.journal)
            except JournalLockedError:
                continue
            except JournalError as error:
                log.warning("journal not adopted error=%s", error)
                continue
            except Exception as error:  # noqa: BLE001 - an unreadable journal does not hold up the others
                error_boundary.say(f"journal {folder}, which is left as it is", error)
                continue
            log.info("journal adopted journal=%s bytes=%d", journal.uuid, journal.size_bytes)
            self.committer.add(journal, adopted=True)

    def _adopt_forever(self) -> None:
        while True:
            gevent.sleep(ADOPT_EVERY_S)
            self.adopt()

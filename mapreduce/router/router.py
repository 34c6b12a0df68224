"""The router: accepts requests, assigns steps to workers, keeps job records. All its sockets belong to one thread.

It only receives and sends messages; `mapreduce.scheduler` makes the decisions.
"""

from __future__ import annotations

import datetime
import logging
import math
import os
import socket as sockets
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

import zmq

from mapreduce.codec import NOT_BSON, decode, encode
from mapreduce.exceptions import MapReduceError, OtherStoreError, SpecError, VersionRefusedError, from_document
from mapreduce.job.spec import COMPLETE, ERROR, JobSpec, JobStatus
from mapreduce.router import job_store
from mapreduce.router.request_handler import RequestHandler
from mapreduce.router.status_report import StatusReport
from mapreduce.router.task_message import task_message
from mapreduce.scheduler.job_limits import JobLimits
from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.map_output_index import SplitOutput
from mapreduce.scheduler.order import AbortStep, AssignStep, JobEnded, WorkerGone
from mapreduce.scheduler.reply_check import error_fault
from mapreduce.scheduler.scheduler import STOPPED, AttemptReply, Scheduler
from mapreduce.scheduler.worker_state import WorkerState
from mapreduce.settings import EngineSettings
from mapreduce.task_error import described
from mapreduce.wire import message
from mapreduce.wire.curve import Authenticator, as_server
from mapreduce.wire.message_reader import MessageReader

_POLL_LIMIT_S = 0.5
_RECORD_EVERY_S = 1.0
_LINGER_MS = 500
_HIGH_WATER = 10_000  # messages per peer; steps are bounded by credits long before
_REQUEST_BUFFER_BYTES = 256 * 2**10  # what the kernel holds of a client's requests
# Of a part of a message; a job record has at most 16 MiB. ZeroMQ closes the connection above.
LARGEST_BYTES = 17 * 2**20

log = logging.getLogger(__name__)


class Stop(Protocol):
    """A flag that ends a loop."""

    def is_set(self) -> bool:
        """Return True if the loop must end."""

    def fileno(self) -> int:
        """Return a file descriptor that becomes readable once the flag is set."""


class Router:
    """`start` binds sockets, `run` works until it must stop, `stop` releases everything. One thread calls all three."""

    def __init__(
        self,
        settings: EngineSettings,
        say: Callable[[str], None] = log.warning,
        may_log: Callable[[str], bool] = lambda key: True,
    ) -> None:
        """Call `say` with a sentence for people when the router starts or stops accepting jobs, and why.

        `may_log` says whether a line with this key may be logged now; anybody who connects can cause such lines.
        """
        self._settings = settings
        self._announce = say
        self._may_log = may_log
        self._limits = JobLimits(
            settings.reduce_count,
            settings.outstanding_maps,
            settings.outstanding_reduces,
            settings.split_limit_s,
            settings.map_job_size,
        )
        self._context: zmq.Context[Any] = zmq.Context()
        self._authenticator = Authenticator(self._context, settings.curve)
        self._requests = self._context.socket(zmq.ROUTER)
        self._workers = self._context.socket(zmq.ROUTER)
        self._wake_in = self._context.socket(zmq.PULL)
        self._wake_out = self._context.socket(zmq.PUSH)
        self._job_store = job_store.JobStore(
            settings.mongo_address, settings.mongo_database, self._wake, self._store_changed
        )
        self.scheduler = Scheduler(uuid.uuid4().hex[:8])
        self.handler = RequestHandler(self.scheduler, settings, self._limits, self._job_store, self._reply)
        self._status_report = StatusReport(
            f"{sockets.gethostname()}:{os.getpid()}",
            datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=time.monotonic()),
        )
        self._recorded: dict[str, float] = {}
        self._addresses: dict[str, str] = {}
        self._store_identity: dict[str, str] | None = None  # None = not known yet
        self._asks_identity = False  # True while it is being read
        self._closed = False
        self.reader = MessageReader()
        self.waits = False  # whether no message waits to be read; any thread may ask

    def start(self) -> dict[str, str]:
        """Bind, start loading unfinished jobs, and return the actual addresses by dotted setting name.

        Jobs are accepted once the unfinished ones are loaded from MongoDB; until then requests get an error that says
        what is missing. Raise `SpecError` naming the address that cannot be bound.
        """
        for socket in (self._requests, self._workers):
            as_server(socket, self._settings.curve)
            socket.set(zmq.LINGER, _LINGER_MS)
            socket.set_hwm(_HIGH_WATER)
            socket.set(zmq.MAXMSGSIZE, LARGEST_BYTES)
        self._requests.set(zmq.RCVBUF, _REQUEST_BUFFER_BYTES)
        self._workers.set(zmq.ROUTER_HANDOVER, 1)
        self._wake_in.bind("inproc://recorder")
        self._addresses = {
            "zmr.req_bind": _bind(self._requests, "zmr.req_bind", self._settings.req_bind),
            "zmr.worker_bind": _bind(self._workers, "zmr.worker_bind", self._settings.worker_bind),
        }
        self._wake_out.connect("inproc://recorder")
        self._job_store.start()
        self._ask_identity()
        self._job_store.ask(job_store.prepare, self._resume, insist=True)
        return dict(self._addresses)

    def run(self, stop: Stop) -> None:
        """Work until `stop` is set, or a client sends `terminate`."""
        poller = zmq.Poller()
        for source in (self._requests, self._workers, self._wake_in, stop.fileno()):
            poller.register(source, zmq.POLLIN)
        while not stop.is_set() and not self.handler.terminated:
            now = time.monotonic()
            wait = min(_POLL_LIMIT_S, self.scheduler.next_check_s(now), self.handler.next_check_s(now))
            self.waits = True
            poller.poll(math.ceil(wait * 1000))
            self.waits = False
            # Take the time before reading messages, so that a worker does not count as silent while they are read.
            now = time.monotonic()
            self._receive()
            self.perform(now)

    def stop(self) -> None:
        """Close sockets and finish writing records; the next router resumes the jobs. Can be called twice."""
        if self._closed:
            return
        self._closed = True
        self._job_store.stop()
        for socket in (self._requests, self._workers, self._wake_in, self._wake_out):
            socket.close()
        self._authenticator.close()
        self._context.term()

    def perform(self, now: float) -> None:
        """Execute the scheduler's orders, expire waiting requests, and write the records that are due."""
        for order in self.scheduler.step(now):
            if isinstance(order, AssignStep):
                try:
                    self._assign(order)
                except Exception as error:  # noqa: BLE001 - one broken job must not stop the router
                    self.scheduler.fail(order.job, error)
            elif isinstance(order, AbortStep):
                self._send(order.worker_id, message.pack(message.ABORT, {"attempt": order.attempt_id}))
            elif isinstance(order, WorkerGone):
                level = logging.INFO if order.why == STOPPED else logging.WARNING
                if self._may_log(f"gone {order.worker_id}"):
                    log.log(level, "worker gone worker=%.100r reason=%.500r", order.name, order.why)
            elif isinstance(order, JobEnded):
                self._ended(order.job, now)
        self.handler.expire(now)
        self._record_progress(now)

    # Messages in

    def _receive(self) -> None:
        while self._wake_in.poll(0):
            self._wake_in.recv()
        self._job_store.deliver()
        for socket, handle in ((self._requests, self._request), (self._workers, self._worker)):
            for _ in range(1_000):  # a flood on one socket does not starve the other
                frames = self.reader.read(socket)
                if frames is None:
                    break
                handle(frames)

    def _request(self, frames: list[bytes]) -> None:
        if b"" not in frames[:-1]:
            return  # no REQ envelope, so no address to reply to
        cut = frames.index(b"") + 1
        envelope = tuple(frames[:cut])
        try:
            document = decode(b"".join(frames[cut:]))
        except Exception as error:  # noqa: BLE001 - a decoder can raise anything on untrusted input
            self._reply(envelope, {"error": SpecError(f"request is not a BSON document: {error}").to_document()})
            return
        self.handler.request(envelope, document, time.monotonic())

    def _worker(self, frames: list[bytes]) -> None:
        now = time.monotonic()
        identity = frames[0]
        worker_id = identity.decode("latin-1")
        try:
            kind, header, payload = message.unpack(frames[1:])
            if kind == message.HELLO:
                message.check_versions(header.get("name"), header.get("versions"))
            message.check_from_worker(kind, header)
            self.scheduler.seen(worker_id, now)
            self._handle(worker_id, kind, header, payload, now)
        except VersionRefusedError as error:
            if self._may_log("refused"):
                log.warning("worker refused reason=%.500r", error.message)
            self._send(worker_id, message.pack(message.REFUSED, {"error": error.to_document()}))
        except (SpecError, *NOT_BSON, KeyError, IndexError, RecursionError) as error:
            self._refuse(worker_id, f"its message cannot be read: {error}", now)
        except Exception as error:
            if self._may_log("failed"):
                log.exception("message of a worker failed worker_id=%.100r", worker_id)
            self._refuse(worker_id, f"its message could not be handled: {described(error)}", now)

    def _refuse(self, worker_id: str, why: str, now: float) -> None:
        """Drop a peer that sent an invalid message. A real worker registers again after its next heartbeat."""
        if self._may_log("dropped"):
            log.warning("worker dropped worker_id=%.100r reason=%.500r", worker_id, why)
        self.scheduler.worker_gone(worker_id, why, now)

    def _handle(self, worker_id: str, kind: str, header: dict[str, Any], payload: Any, now: float) -> None:
        scheduler = self.scheduler
        if kind == message.HELLO:
            self._hello(worker_id, header, now)
        elif kind == message.BEAT:
            known = scheduler.heartbeat(worker_id, header["idle"], set(header["running"]), now, header["spare"])
            self._send(worker_id, message.pack(message.BEAT, {"epoch": scheduler.epoch, "known": known}))
        elif kind == message.READY:
            scheduler.ready(worker_id, now)
        elif kind == message.BYE:
            scheduler.worker_gone(worker_id, STOPPED, now)
        elif kind == message.PROGRESS:
            scheduler.progressed(header["job"], header["attempt"], header["docs"], header["phase"], now)
        elif kind in (message.DONE, message.FAILED, message.BROKEN):
            answer = AttemptReply(worker_id, header["job"], header["attempt"])
            if kind == message.DONE:
                output = self._output(worker_id, header, payload)
                scheduler.done(answer, header["result"], output, now)
                if header["result"].get("splits") is not None:
                    self._record_plan(header["job"])
            elif kind == message.BROKEN:
                scheduler.broken(answer, header["why"], now)
            elif fault := error_fault(header["error"]):
                scheduler.broken(answer, fault, now)
            else:
                error = from_document(header["error"])
                if isinstance(error, OtherStoreError):
                    self._ask_identity()  # ours may have been dropped, or our MongoDB replaced
                scheduler.failed(answer, error, now)
            if header.get("job") not in scheduler.jobs:
                self._send(worker_id, message.pack(message.FORGET, {"job": header["job"]}))

    def _hello(self, worker_id: str, header: dict[str, Any], now: float) -> None:
        slots, idle, spare = header["slots"], header["idle"], header["spare"]
        worker = WorkerState(worker_id, header["name"], slots, header["data_uri"], now, idle, spare)
        held: dict[str, list[SplitOutput]] = {}
        for item in header["held"]:
            output = SplitOutput.from_document(item, worker_id, worker.data_uri)
            held.setdefault(item["job"], []).append(output)
        self.scheduler.register(worker, held)
        self._send(worker_id, message.pack(message.WELCOME, {"epoch": self.scheduler.epoch}))
        for job_id in held:
            if job_id not in self.scheduler.jobs and self.handler.loaded:
                self._send(worker_id, message.pack(message.FORGET, {"job": job_id}))
        if self._may_log(f"joined {worker_id}"):
            log.info("worker joined worker=%.100r slots=%d", worker.name, worker.slots)

    def _output(self, worker_id: str, header: dict[str, Any], payload: Any) -> SplitOutput | None:
        if header.get("held") is None:
            return None
        worker = self.scheduler.workers.get(worker_id)
        data = bytes(payload[0]) if payload else None
        return SplitOutput.from_document(header["held"], worker_id, worker.data_uri if worker else "", data)

    # Messages out

    def _send(self, worker_id: str, frames: list[bytes]) -> None:
        self._workers.send_multipart([worker_id.encode("latin-1"), *frames])

    def _reply(self, envelope: tuple[bytes, ...], document: dict[str, Any]) -> None:
        self._requests.send_multipart([*envelope, encode(document)])

    def _assign(self, order: AssignStep) -> None:
        frames = task_message(order, self.handler.spec_bytes(order.job), self._store_identity)
        self._send(order.worker_id, frames)

    def _ended(self, job: JobState, now: float) -> None:
        try:
            status = job.status(now)
        except Exception as error:
            log.exception("final status of a job cannot be built job=%s", job.job_id)
            status = JobStatus(job.job_id, ERROR, MapReduceError(described(error)).to_document())
        fields = status.to_document()["status"]
        self._status_report.ended(status)
        self._recorded.pop(job.job_id, None)

        def recorded(instead: MapReduceError | None) -> None:
            final = status
            if instead is not None and not instead.retryable:
                final = JobStatus(job.job_id, ERROR, instead.to_document())
            self.handler.ended(job, final)

        self._job_store.ask(job_store.end(job.job_id, fields, durable=job.durable), recorded, insist=True)
        if status.state != COMPLETE and isinstance(job.spec, JobSpec):
            self._job_store.ask(job_store.drop_leftovers(job.spec.database))
        for worker_id in self.scheduler.workers:
            self._send(worker_id, message.pack(message.FORGET, {"job": job.job_id}))
        log.info("job ended job=%s state=%s", job.job_id, status.state)

    # Records

    def _wake(self) -> None:
        self._wake_out.send(b"")

    def _store_changed(self, away: MapReduceError | None) -> None:
        """Announce that MongoDB has become unavailable (`away` says why) or available (None)."""
        self.handler.lookups.away = away
        if away is not None:
            what = "no jobs are started, and running jobs wait" if self.handler.loaded else "no jobs are taken yet"
            self._announce(f"{away.message}; {what}: trying again")
            return
        self._ask_identity()  # another MongoDB may have taken its place
        if self.handler.loaded:
            self._announce("MongoDB is back: taking jobs again")

    def _ask_identity(self) -> None:
        """Read the identity of our MongoDB, unless that is going on."""
        if not self._asks_identity:
            self._asks_identity = True
            self._job_store.ask(job_store.identity, self._identified, insist=True)

    def _identified(self, found: Any) -> None:
        self._asks_identity = False
        if isinstance(found, dict):
            self._store_identity = found
        else:
            log.error("identity of MongoDB cannot be read error=%s", found)

    def _resume(self, records: Any) -> None:
        now = time.monotonic()
        if not isinstance(records, list):
            log.error("jobs of an earlier router cannot be loaded error=%s", records)
            records = []
        for found in records:
            job = self.handler.load(found, now)
            if isinstance(job, JobStatus):
                continue
            self.scheduler.add(job)
            log.info("job resumed job=%s", job.job_id)
        self._job_store.ask(job_store.drop_leftovers(self._settings.mongo_database))
        self.handler.loaded = True
        self._announce("taking jobs at " + ", ".join(f"{key} {address}" for key, address in self._addresses.items()))
        # Workers that registered before the jobs were known must do so again, with the map output they hold.
        for worker_id in self.scheduler.workers:
            self._send(worker_id, message.pack(message.BEAT, {"epoch": self.scheduler.epoch, "known": False}))

    def _record_plan(self, job_id: str) -> None:
        job = self.scheduler.jobs.get(job_id)
        if job is not None and job.splits is not None and len(job.splits) > 1:
            plan = encode({"splits": [span.to_document() for span in job.splits]})
            self._job_store.ask(job_store.update(job_id, {"plan": plan}, durable=False))

    def _record_progress(self, now: float) -> None:
        shown = self._status_report.due(self.scheduler.workers.values(), self.scheduler.health, now)
        if shown is not None:
            self._job_store.ask(job_store.live(shown))
        for job in list(self.scheduler.jobs.values()):
            if now - self._recorded.setdefault(job.job_id, now) >= _RECORD_EVERY_S:
                self._recorded[job.job_id] = now
                try:
                    status = job.status(now)
                except Exception as error:  # noqa: BLE001 - one broken job must not stop the router
                    self.scheduler.fail(job, error)
                    continue
                fields = {"state": status.state, "progress": dict(status.progress)}
                self._job_store.ask(job_store.update(job.job_id, fields, durable=False))


def _bind(socket: Any, key: str, address: str) -> str:
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise SpecError(
            f"{key} {address} cannot be bound: {error.strerror}; stop the process that listens there, or set {key}"
        ) from None
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))

"""The worker: sends heartbeats, serves map output, and has its executors run the steps.

It never runs task code itself and never waits for a process that does, so neither a map nor the start of an executor
can delay its heartbeats. All its sockets belong to one thread.
"""

from __future__ import annotations

import logging
import os
import socket as sockets
import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import zmq

from mapreduce.codec import NOT_BSON
from mapreduce.exceptions import MapReduceError, SpecError, WorkerUnableError, from_document
from mapreduce.router.router import Stop
from mapreduce.scheduler.worker_state import HEARTBEAT_S
from mapreduce.settings import EngineSettings
from mapreduce.wire import message
from mapreduce.wire.curve import Authenticator, as_client
from mapreduce.worker.executor import ExecutorConfig
from mapreduce.worker.executor_process import ExecutorFactory, ExecutorProcess
from mapreduce.worker.locked_folder import LockedFolder
from mapreduce.worker.map_output_server import MapOutputServer
from mapreduce.worker.map_output_store import MapOutputStore

SILENT_S = 3.0  # after this long without a message from the router, reconnect and ask for its address again
UNKNOWN_RETRY_S = 0.25  # pause before the next attempt to find a router that has not recorded its address yet
ABORT_GRACE_S = 2.0  # an executor that goes on with an aborted step for this long is killed
RESTART_PAUSE_S = 1.0  # pause after an executor has failed to start or ended before it was ready
_HIGH_WATER = 10_000
_LAST_WORDS_MS = 50
_LINGER_MS = 500

log = logging.getLogger(__name__)


class Worker:
    """`start` binds sockets and starts executors, `run` works until it must stop, `stop` releases everything.

    One thread calls all three. `run` raises `VersionRefusedError` if the router has another version.
    """

    def __init__(self, settings: EngineSettings, processes: int | None = None) -> None:
        self._settings = settings
        self.processes = processes or settings.processes_per_worker
        self.worker_id = uuid.uuid4().hex
        self.name = f"{sockets.gethostname()}:{os.getpid()}"
        self._context: zmq.Context[Any] = zmq.Context()
        self._poller = zmq.Poller()
        self._router: Any = None
        self._authenticator = Authenticator(self._context, settings.curve)
        self.data_uri = ""  # where other workers ask for map output
        self._children: list[ExecutorProcess] = []
        self._router_seen_s = 0.0
        self._silence_logged = False
        self._beat_s = 0.0
        self._epoch: str | None = None
        self._failed_start_s = 0.0
        self._start_error = ""  # why the last start of an executor failed; empty = it did not
        self._waiting: deque[list[bytes]] = deque()  # assigned steps that wait for an executor
        self._credits = 0  # steps that the router can assign, as last reported to it
        self._refused: MapReduceError | None = None
        self._opened = ExitStack()  # closes and removes what `start` has made
        self._closed = False

    def start(self) -> None:
        """Bind the data socket, start executors and connect to the router.

        Raise `SpecError` if binding fails, `WorkerUnableError` if a folder cannot be used.
        """
        claim = LockedFolder(self._settings.job_root, "worker-", "zmr.job_root")
        self._opened.callback(claim.release)
        self.folder = claim.path
        self.map_outputs = MapOutputStore(self.folder)
        self._factory = ExecutorFactory(self._context, self._config)
        self._opened.callback(self._factory.close)
        self._output_server = MapOutputServer(self._context, self._settings, self.map_outputs)
        self._opened.callback(self._output_server.close)
        self.data_uri = self._output_server.bind()
        self._poller.register(self._output_server.socket, zmq.POLLIN)
        for _ in range(self.processes):
            self._spawn()
        self._connect()

    def run(self, stop: Stop) -> None:
        """Work until `stop` is set."""
        self._poller.register(stop.fileno(), zmq.POLLIN)
        while not stop.is_set():
            self._poller.poll(self._wait_ms())
            self.perform()
            if self._refused is not None:
                raise self._refused

    def stop(self) -> None:
        """Notify the router, kill the executors, remove map output. Can be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._router is not None:
            self._send(message.pack(message.BYE, {}))
        for child in self._children:
            child.kill()
        for child in self._children:
            child.close()
        if self._router is not None:
            self._router.close()
        self._opened.close()
        self._authenticator.close()
        self._context.term()

    def perform(self) -> None:
        """Handle everything that is due now: messages, heartbeats, executors that ended or ignore an abort."""
        now = time.monotonic()
        self._receive_from_router(now)
        for child in list(self._children):
            for frames in child.receive():
                self._receive_from_child(child, frames)
        self._output_server.serve()
        self._watch_children(now)
        self._start_waiting(now)
        self._report_ready()
        self._heartbeat(now)

    # The router

    def _connect(self) -> None:
        """Connect to the router's current address; the next heartbeats make up for messages lost on the way."""
        if self._router is not None:
            self._poller.unregister(self._router)
            self._router.close(0)
        self._router = self._context.socket(zmq.DEALER)
        as_client(self._router, self._settings.curve)
        self._router.set(zmq.IDENTITY, self.worker_id.encode())
        self._router.set(zmq.LINGER, _LINGER_MS)
        self._router.set_hwm(_HIGH_WATER)
        self._router.set(zmq.RECONNECT_IVL, 100)
        self._router.set(zmq.RECONNECT_IVL_MAX, 1_000)
        self._poller.register(self._router, zmq.POLLIN)
        self._router_seen_s = time.monotonic()
        try:
            self._router.connect(self._settings.worker_uri())
        except Exception as error:  # noqa: BLE001 - the caller's function can raise anything; it is called again
            log.info("router address not known yet error=%s", error)
            self._router_seen_s -= SILENT_S - UNKNOWN_RETRY_S
            return
        self._hello()

    def _hello(self) -> None:
        header = {
            "name": self.name,
            "versions": message.versions(),
            "slots": self.processes,
            **self._capacity(),
            "data_uri": self.data_uri,
            "held": list(self.map_outputs.inventory()),
        }
        self._send(message.pack(message.HELLO, header))

    def _send(self, frames: Sequence[bytes]) -> None:
        """Send to the router without blocking. A message that the queue has no space for is lost; the next heartbeats
        that arrive settle the state of every attempt.
        """
        try:
            self._router.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            log.debug("message to router dropped: the queue is full")

    def _capacity(self) -> dict[str, int]:
        """Return how many steps can start now: `idle` of any kind, and beyond that `spare` second attempts."""
        ready = sum(child.idle for child in self._children)
        busy = sum(bool(child.attempt) and not child.aborted for child in self._children)
        idle = max(0, min(ready, self.processes - busy) - len(self._waiting))
        self._credits = idle
        return {"idle": idle, "spare": max(0, ready - idle - len(self._waiting))}

    def _report_ready(self) -> None:
        """Send the router a READY for each step that can start and was not reported yet."""
        before = self._credits
        for _ in range(self._capacity()["idle"] - before):
            self._send(message.pack(message.READY, {}))

    def _start_waiting(self, now: float) -> None:
        for child in [child for child in self._children if child.idle][: len(self._waiting)]:
            frames = self._waiting.popleft()
            child.assign(frames, message.unpack(frames)[1]["attempt"], now)

    def _receive_from_router(self, now: float) -> None:
        unknown = False
        while True:
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                kind, header, _ = message.unpack(frames)
                message.check_from_router(kind, header)
            except (SpecError, *NOT_BSON, KeyError, IndexError) as error:
                log.warning("message from router cannot be read error=%s", error)
                continue
            self._router_seen_s, self._silence_logged = now, False
            if kind == message.TASK:
                self._assign(frames, header["attempt"], now)
            elif kind == message.ABORT:
                self._abort(header["attempt"], now)
            elif kind == message.FORGET:
                self._forget(header["job"])
            elif kind == message.WELCOME:
                self._epoch = header["epoch"]
            elif kind == message.REFUSED:
                self._refused = from_document(header["error"])
            elif kind == message.BEAT and (not header["known"] or self._epoch != header["epoch"]):
                self._epoch = header["epoch"]
                unknown = True

        if unknown:
            self._hello()

    def _forget(self, job_id: str) -> None:
        try:
            self.map_outputs.forget(job_id)
        except SpecError as error:
            log.warning("invalid job id in a FORGET from the router error=%s", error)

    def _heartbeat(self, now: float) -> None:
        if now - self._router_seen_s > SILENT_S:
            self._warn_of_silence()
            self._connect()
        if now - self._beat_s >= HEARTBEAT_S:
            self._beat_s = now
            running = [child.attempt for child in self._children if child.attempt]
            running += [message.unpack(frames)[1]["attempt"] for frames in self._waiting]
            self._send(message.pack(message.BEAT, {**self._capacity(), "running": running}))

    def _warn_of_silence(self) -> None:
        """Log once that the router is silent; a router that refuses our keys sends nothing."""
        if not self._silence_logged:
            self._silence_logged = True
            log.warning("router silent: check that it runs at the address in zmr.worker_uri and has the same keys")

    def _wait_ms(self) -> int:
        return max(1, int((self._beat_s + HEARTBEAT_S - time.monotonic()) * 1000))

    # The executors

    def _config(self) -> ExecutorConfig:
        settings = self._settings
        return ExecutorConfig(
            worker_id=self.worker_id,
            folder=str(self.folder),
            mongo_address=settings.mongo_address(),
            allowed_modules=list(settings.allowed_modules),
            allow_source=settings.allow_source,
            worker_setup=settings.worker_setup,
            map_job_size=settings.map_job_size,
            spill_bytes=settings.spill_bytes,
            compress=settings.compress,
            memory_bytes=settings.worker_memory_bytes,
            split_limit_s=settings.split_limit_s,
            steps_per_process=settings.steps_per_process,
            curve=None if settings.curve is None else [settings.curve.public, settings.curve.secret],
        )

    def _spawn(self) -> None:
        try:
            child = self._factory.spawn()
        except Exception as error:  # noqa: BLE001 - for example: no mongod runs yet
            if str(error) != self._start_error:  # log each reason once, not with every attempt
                self._start_error = str(error)
                log.warning("executor start failed, will retry error=%s", error)
            self._failed_start_s = time.monotonic()
            return
        self._start_error = ""
        self._children.append(child)
        self._poller.register(child.socket, zmq.POLLIN)
        self._poller.register(child.lifeline, zmq.POLLIN)

    def _assign(self, frames: list[bytes], attempt_id: str, now: float) -> None:
        self._credits = max(0, self._credits - 1)
        child = next((child for child in self._children if child.idle), None)
        if child is None:
            self._waiting.append(frames)
            return
        child.assign(frames, attempt_id, now)

    def _abort(self, attempt_id: str, now: float) -> None:
        for child in self._children:
            if child.attempt == attempt_id:
                child.abort(now + ABORT_GRACE_S)
        for frames in [f for f in self._waiting if message.unpack(f)[1]["attempt"] == attempt_id]:
            self._waiting.remove(frames)

    def _receive_from_child(self, child: ExecutorProcess, frames: list[bytes]) -> None:
        try:
            self._handle(child, frames)
        except (SpecError, *NOT_BSON, KeyError, IndexError, OSError):
            log.exception("executor killed: its message cannot be used pid=%d", child.process.pid)
            child.kill()

    def _handle(self, child: ExecutorProcess, frames: list[bytes]) -> None:
        kind, header, payload = message.unpack(frames)
        if kind == message.HELLO:
            child.send_config()
            return
        if kind == message.PROGRESS:
            self._send(frames)
            return
        if kind == message.STALE:
            # A new process will load the right code; the router need not know.
            self._waiting.appendleft(child.frames)
            child.mark_leaving()
            return
        if kind == message.DONE and header["held"] is not None:
            try:
                self.map_outputs.put(header["job"], header["held"], bytes(payload[0]) if payload else None)
                frames = message.pack(message.DONE, header, *payload)  # the store may have set a path
            except OSError as error:
                lack = WorkerUnableError(
                    f"map output cannot be kept: {error}: check the disk of job_root"
                ).to_document()
                kind, header = message.FAILED, {**header, "error": lack}
                frames = message.pack(kind, header)
        if kind in (message.DONE, message.FAILED):
            aborted = kind == message.FAILED and header["error"] is None
            child.mark_leaving() if header["leaves"] else child.mark_idle()
            if not aborted:
                self._send(frames)
            if kind == message.FAILED and not aborted:
                log.warning("step failed job=%s error=%s", header["job"], header["error"]["message"])
        if kind == message.READY:
            child.mark_idle()

    def _watch_children(self, now: float) -> None:
        for child in list(self._children):
            if child.overdue(now):
                child.kill()
            if not child.dead():
                continue
            if child.attempt:
                child.socket.poll(_LAST_WORDS_MS)
            for frames in child.receive():  # sent before it ended
                self._receive_from_child(child, frames)
            self._poller.unregister(child.socket)
            self._poller.unregister(child.lifeline)
            self._children.remove(child)
            if child.attempt and not child.aborted:
                log.warning("executor lost job=%s pid=%d reason=%s", child.job, child.process.pid, child.exit_reason())
                header = {"attempt": child.attempt, "job": child.job, "why": child.exit_reason()}
                self._send(message.pack(message.BROKEN, header))
            if not child.was_ready:
                self._failed_start_s = now
            child.close()
        # Start spares only once the others are ready, so as not to delay these.
        ready = all(child.was_ready for child in self._children)
        wanted = self.processes + (self._settings.spare_processes if ready else 0)
        if len(self._children) < wanted and now - self._failed_start_s > RESTART_PAUSE_S:
            self._spawn()

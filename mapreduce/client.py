"""The engine whose jobs run on router and workers: a client of the router's request socket."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import zmq

from mapreduce.call import checked_call
from mapreduce.codec import decode, encode
from mapreduce.curve import as_client
from mapreduce.engine import Engine
from mapreduce.exceptions import JobTimeoutError, RouterUnreachableError, from_document
from mapreduce.settings import EngineSettings
from mapreduce.spec import JobSpec, JobStatus, new_job_id

ANSWER_S = 3.0  # how long an answer that does not wait for a job may take
ATTEMPTS = 2  # requests are repeated on a fresh connection: each of them may be sent twice without harm
LONG_POLL_S = 2.0  # how long the router holds back one answer of `wait`
RETRY_S = 0.2


class ZmqEngine(Engine):
    """A REQ connection per thread, made on first use. A lost router is connected to again, at its address of then."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._context: zmq.Context[Any] = zmq.Context()
        self._local = threading.local()
        self._sockets: set[Any] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, spec: JobSpec) -> str:
        spec = spec.checked()
        self._ask({"$command": "submit", "spec": spec.to_document()})
        return spec.job_id

    def submit_call(
        self,
        func_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        job_id: str | None = None,
    ) -> str:
        call = checked_call(func_name, args, kwargs, job_id or new_job_id())
        request = {"$command": "basic", "job_id": call.job_id, "func_name": func_name, **decode(call.arguments)}
        self._ask(request)
        return call.job_id

    def status(self, job_id: str) -> JobStatus:
        return JobStatus.from_document(self._ask({"$command": "status", "job_id": job_id}))

    def wait(self, job_id: str, timeout_s: float | None = None) -> JobStatus:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = LONG_POLL_S if until is None else min(LONG_POLL_S, until - time.monotonic())
            request = {"$command": "status", "job_id": job_id, "wait_s": max(0.0, left)}
            try:
                status = JobStatus.from_document(self._ask(request, ANSWER_S + max(0.0, left)))
            except RouterUnreachableError:
                # It is being started again, or somebody has to start it: the job is recorded and goes on.
                if until is not None and time.monotonic() >= until:
                    raise
                continue
            if status.ended:
                return status
            if until is not None and time.monotonic() >= until:
                raise JobTimeoutError(f"job {job_id} is in state {status.state} after {timeout_s} s")

    def cancel(self, job_id: str) -> JobStatus:
        return JobStatus.from_document(self._ask({"$command": "cancel", "job_id": job_id}))

    def jobs(self) -> list[JobStatus]:
        found = self._ask({"$command": "jobs", "limit": 1_000})
        return [JobStatus.from_document(item) for item in found["jobs"]]

    def ping(self, timeout_s: float = 1.0) -> bool:
        try:
            self._ask({"$command": "echo", "value": 1}, timeout_s, attempts=1)
        except RouterUnreachableError:
            return False
        return True

    def config(self) -> dict[str, Any]:
        """Settings of the router, and its workers."""
        return self._ask({"$command": "config"})

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for socket in self._sockets:
                socket.close(0)
            self._sockets.clear()
        self._context.term()

    def _ask(self, request: Mapping[str, Any], timeout_s: float = ANSWER_S, attempts: int = ATTEMPTS) -> dict[str, Any]:
        """The router's answer. Raises `RouterUnreachableError`, or the error in the answer."""
        body = encode(request)
        why = "it does not answer"
        for _ in range(attempts):
            try:
                socket = self._socket()
            except Exception as error:  # noqa: BLE001 - whatever tells the address
                why = str(error)
                time.sleep(min(RETRY_S, timeout_s))
                continue
            socket.send(body)
            if socket.poll(int(timeout_s * 1000)):
                answer = decode(socket.recv())
                if "error" in answer and "job_id" not in answer:
                    raise from_document(answer["error"])
                return answer
            self._drop(socket)
        raise RouterUnreachableError(f"no router at req_uri {self._address()}: {why}; start it with `runrouter`")

    def _address(self) -> str:
        try:
            return self._settings.req_uri()
        except Exception:  # noqa: BLE001 - whatever tells the address
            return "(unknown)"

    def _socket(self) -> Any:
        address = self._settings.req_uri()
        socket = getattr(self._local, "socket", None)
        if socket is not None and self._local.address == address and not socket.closed:
            return socket
        if socket is not None:
            self._drop(socket)
        with self._lock:
            if self._closed:
                raise RouterUnreachableError("the engine was closed")
            socket = self._context.socket(zmq.REQ)
            self._sockets.add(socket)
        as_client(socket, self._settings.curve)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.REQ_CORRELATE, 1)  # a late answer to an earlier request is thrown away
        socket.set(zmq.REQ_RELAXED, 1)
        socket.set(zmq.RECONNECT_IVL, 50)
        socket.set(zmq.RECONNECT_IVL_MAX, 500)
        socket.connect(address)
        self._local.socket, self._local.address = socket, address
        return socket

    def _drop(self, socket: Any) -> None:
        with self._lock:
            self._sockets.discard(socket)
        with contextlib.suppress(zmq.ZMQError):
            socket.close(0)
        self._local.socket = None

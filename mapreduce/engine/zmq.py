"""Engine that runs jobs on router and workers: a client of the router's request socket."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import zmq

from mapreduce.codec import decode, encode
from mapreduce.engine.interface import Engine
from mapreduce.exceptions import JobTimeoutError, RouterUnreachableError, StoreUnavailableError, from_document
from mapreduce.job.basic_job import CallSpec
from mapreduce.job.spec import JobSpec, JobStatus
from mapreduce.job.spec_check import checked_spec
from mapreduce.settings import EngineSettings
from mapreduce.wire.curve import as_client

ANSWER_S = 3.0  # timeout of requests that do not wait for a job
ATTEMPTS = 2  # a request is repeated on a new connection; all requests can be sent twice without harm
LONG_POLL_S = 2.0  # longest time for which the router delays one reply to `wait`
RETRY_S = 0.2


class ZmqEngine(Engine):
    """Connections to the router, each used by one call at a time, and reopened at its new address if it moves.

    In a process patched by gevent, such as a web worker, calls wait in gevent's thread pool, so that a silent router
    does not block other greenlets.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._context: zmq.Context[Any] = zmq.Context()
        # A deque is safe between threads, greenlets and gevent's pool, and needs no lock that gevent could patch.
        self._idle: deque[tuple[str, Any]] = deque()
        self._closed = False

    def submit(self, spec: JobSpec, *, durable: bool = True) -> str:
        spec = checked_spec(spec, allow_source=True)  # the router decides by its own settings
        self._ask({"$command": "submit", "spec": spec.to_document(), "durable": durable})
        return spec.job_id

    def _start_call(self, call: CallSpec) -> None:
        self._ask({"$command": "basic", "job_id": call.job_id, "func_name": call.func_name, **decode(call.arguments)})

    def status(self, job_id: str) -> JobStatus:
        return JobStatus.from_document(self._ask({"$command": "status", "job_id": job_id}))

    def wait(self, job_id: str, timeout_s: float | None = None) -> JobStatus:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = LONG_POLL_S if until is None else min(LONG_POLL_S, until - time.monotonic())
            request = {"$command": "status", "job_id": job_id, "wait_s": max(0.0, left)}
            try:
                status = JobStatus.from_document(self._ask(request, ANSWER_S + max(0.0, left)))
            except (RouterUnreachableError, StoreUnavailableError):
                # The router is down or restarting; the job is recorded and will go on.
                if until is not None and time.monotonic() >= until:
                    raise
                time.sleep(RETRY_S)
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
        """Return the router's settings and its workers."""
        return self._ask({"$command": "config"})

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        while self._idle:
            self._idle.pop()[1].close(0)
        self._context.destroy(0)

    def _ask(self, request: Mapping[str, Any], timeout_s: float = ANSWER_S, attempts: int = ATTEMPTS) -> dict[str, Any]:
        """Return the router's answer. Raise `RouterUnreachableError`, or the error in the answer."""
        if self._closed:
            raise RouterUnreachableError("the engine was closed")
        if _is_patched():
            import gevent

            answer: dict[str, Any] | str = gevent.get_hub().threadpool.apply(
                self._exchange, (encode(request), timeout_s, attempts)
            )
        else:
            answer = self._exchange(encode(request), timeout_s, attempts)
        if isinstance(answer, str):
            raise RouterUnreachableError(f"no router at req_uri {self._address()}: {answer}; start it with `runrouter`")
        if "error" in answer and "job_id" not in answer:
            raise from_document(answer["error"])
        return answer

    def _exchange(self, body: bytes, timeout_s: float, attempts: int) -> dict[str, Any] | str:
        """Return the answer, or the reason why there is none. Blocks its thread."""
        why = "it does not answer"
        for left in reversed(range(attempts)):
            try:
                address = self._settings.req_uri()
            except Exception as error:  # noqa: BLE001 - the caller's function can raise anything
                why = str(error)
                time.sleep(min(RETRY_S, timeout_s))
                continue
            socket = self._take(address)
            socket.send(body)
            if socket.poll(int(timeout_s * 1000)):
                answer = decode(socket.recv())
                self._idle.append((address, socket))
                if not (left and _is_of_store(answer)):  # else retry: MongoDB was slow or has just moved
                    return answer
                continue
            socket.close(0)
        return why

    def _address(self) -> str:
        try:
            return self._settings.req_uri()
        except Exception:  # noqa: BLE001 - the caller's function can raise anything
            return "(unknown)"

    def _take(self, address: str) -> Any:
        """Return an unused connection to `address`; close those to earlier addresses of the router."""
        with contextlib.suppress(IndexError):
            while True:
                known, socket = self._idle.pop()
                if known == address:
                    return socket
                socket.close(0)
        socket = self._context.socket(zmq.REQ)
        as_client(socket, self._settings.curve)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.REQ_CORRELATE, 1)  # discard late answers to earlier requests
        socket.set(zmq.REQ_RELAXED, 1)
        socket.set(zmq.RECONNECT_IVL, 50)
        socket.set(zmq.RECONNECT_IVL_MAX, 500)
        socket.connect(address)
        return socket


def _is_of_store(answer: dict[str, Any]) -> bool:
    """Return True if a request was refused because MongoDB is unavailable."""
    return "job_id" not in answer and answer.get("error", {}).get("code") == StoreUnavailableError.code


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))

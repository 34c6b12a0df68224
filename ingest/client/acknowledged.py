"""The client that waits until the ingester has its events on disk, and can keep undelivered ones in a spool."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bson
import zmq
from bson.errors import BSONError

from ..exceptions import BusyError, DeliveryError, SpoolError
from ..transport import fork, gevent_wait
from ..transport.client_keys import ClientKeys
from ..wire.ack_request import refused_document, source_frame
from ..wire.refusal import Refusal
from .ack_connection import AckConnection
from .encode import prepared
from .push import Event, document
from .receipt import Receipt, combined
from .spool import MAX_BYTES, Spool

log = logging.getLogger(__name__)
REQUEST_BYTES = 4 * 2**20
REQUEST_EVENTS = 5_000
REQUESTS_UNDER_WAY = 64
BYTES_UNDER_WAY = 8 * 2**20  # over all requests under way, unless a single one is larger
IDLE_SOCKETS = 8
AWAY_S = 1.0  # time after a failure in which events go straight to the spool
SPOOL_CHECK_S = 5.0  # time between checks for spool files of dead processes
DRAINED_PER_SEND = 4  # requests from the spool that one send delivers as well
PAUSE_S = 0.05  # between two attempts of a flush


@dataclass(frozen=True, slots=True)
class _RetryBudget:
    """The limits on waiting and retrying."""

    timeout_s: float  # for each answer
    attempts: int  # in all
    connect_timeout_s: float  # until something can be sent


class AcknowledgedClient:
    """Send events to an ingester's acknowledged socket and return once they are on its disk.

    Each event without an `id` gets one, so that sending it again stores nothing twice. A request that is not answered
    within `timeout_s` is sent again with the same ids, `attempts` times in all.

    With `spool`, a folder, undelivered events are kept there, up to `spool_max_bytes`. They are on disk when `send`
    returns, and are sent with the same ids by later sends, by `flush`, or, if this process dies, by the next one that
    uses the folder. Several processes can share a folder. Spooled events can arrive after others that were sent later.

    `keys` are needed if the ingester accepts only senders with keys.

    `source` is for receivers that forward events of other programs: quarantine records it with refused input.

    Threads and greenlets can share a client, and so can processes after a fork.
    """

    def __init__(
        self,
        addr: str,
        *,
        timeout_s: float = 5.0,
        attempts: int = 3,
        connect_timeout_s: float = 2.0,
        request_events: int = REQUEST_EVENTS,
        spool: Path | str | None = None,
        spool_max_bytes: int = MAX_BYTES,
        source: str = "",
        keys: ClientKeys | None = None,
    ) -> None:
        self.addr = addr
        self._source = [source_frame(source)] if source else []
        self._keys = keys
        self._budget = _RetryBudget(timeout_s, attempts, connect_timeout_s)
        self._request_events = request_events
        self._spool = Spool(spool, spool_max_bytes) if spool is not None else None
        self._away_until = self._check_at = 0.0
        self._reset()
        fork.register(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._draining = threading.Lock()  # never waited for: greenlets of one thread share it
        self._idle: list[AckConnection] = []

    def after_fork(self) -> None:
        self._reset()
        if self._spool is not None:
            self._spool.after_fork()

    def send(self, events: Iterable[Event]) -> Receipt:
        """Send `events` in order, in as many requests as their size requires, and return their outcome.

        Several requests are under way at once. Raise `BusyError` if the ingester's journal is full, `DeliveryError` if
        the ingester is unreachable or does not answer; with a spool only `SpoolError`, if that is full or not writable.
        `error.data["unsent"]` then holds the events that are neither known to be journalled nor spooled, encoded and
        with their ids: pass them to `send` again. `error.data["receipt"]` is the outcome of the others.
        """
        requests = list(_requests([prepared(event) for event in events], self._request_events))
        if self._spool is None:
            return self._deliver(requests, self._budget)
        if time.monotonic() < self._away_until:
            return self._spool_all(self._spool, requests, Receipt(0))
        try:
            receipt = self._deliver(requests, self._budget)
        except DeliveryError as error:
            self._away_until = time.monotonic() + AWAY_S
            if self._spool.empty:
                log.warning("events go to the spool error=%s", error)
            left = list(_requests(error.data["unsent"], self._request_events))
            return self._spool_all(self._spool, left, error.data["receipt"])
        if not self._spool.empty or time.monotonic() >= self._check_at:
            try:
                self._drain(self._spool, self._budget, most=DRAINED_PER_SEND)
            except DeliveryError as error:
                self._away_until = time.monotonic() + AWAY_S
                log.warning("spooled events cannot be delivered yet error=%s", error)
        return receipt

    def _spool_all(self, spool: Spool, requests: list[list[bytes]], receipt: Receipt) -> Receipt:
        for number, request in enumerate(requests):
            try:
                spool.append(request)
            except SpoolError as error:
                error.data["unsent"] = [event for left in requests[number:] for event in left]
                error.data["receipt"] = receipt
                raise
            receipt = replace(receipt, spooled=receipt.spooled + len(request))
        return receipt

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once the spool is empty, files of dead processes included; at once if the client has no spool.

        Raise `DeliveryError` if it is not empty within `timeout_s` (None = the client's); nothing is lost then.
        """
        bound_s = self._budget.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + bound_s
        while self._spool is not None:
            left_s = max(0.0, deadline - time.monotonic())
            once = _RetryBudget(min(left_s, self._budget.timeout_s), 1, min(left_s, self._budget.connect_timeout_s))
            fault = "another thread is delivering it"
            try:
                if self._drain(self._spool, once, deadline=deadline):
                    self._away_until = 0.0
                    return
            except DeliveryError as error:
                fault = str(error)
            if not left_s:
                raise DeliveryError(f"the spool {self._spool.folder} is not empty after {bound_s:g} s: {fault}")
            gevent_wait.pause(min(PAUSE_S, left_s))

    def _drain(
        self, spool: Spool, budget: _RetryBudget, *, most: int = sys.maxsize, deadline: float = math.inf
    ) -> bool:
        """Deliver up to `most` requests from the spool, in one thread at a time; return whether the spool is empty."""
        if not self._draining.acquire(blocking=False):
            return False
        try:
            while most > 0:
                batch = spool.oldest()
                if batch is None:
                    self._check_at = time.monotonic() + SPOOL_CHECK_S
                    return True
                receipt = self._deliver(list(_requests(batch.events, self._request_events)), budget)
                spool.acknowledge(batch)
                for refusal in receipt.rejected:
                    log.warning("event from the spool refused code=%(code)s message=%(message)s", refusal)
                most = most - 1 if time.monotonic() < deadline else 0
            return False
        finally:
            self._draining.release()

    def _deliver(self, requests: list[list[bytes]], budget: _RetryBudget) -> Receipt:
        answers: dict[int, dict[str, Any]] = {}
        try:
            self._send_all(requests, answers, budget)
        except DeliveryError as error:
            error.data["unsent"] = [e for n, request in enumerate(requests) if n not in answers for e in request]
            error.data["receipt"] = combined(requests, answers)
            raise
        return combined(requests, answers)

    def _send_all(self, requests: list[list[bytes]], answers: dict[int, dict[str, Any]], budget: _RetryBudget) -> None:
        silent = f"the ingester at {self.addr} did not answer within {budget.timeout_s:g} s (attempts: {{}})"
        unsure = "the events may or may not have arrived, send them again with the same ids"
        for attempt in range(budget.attempts):
            left = deque(n for n in range(len(requests)) if n not in answers)
            if not left:
                return
            try:
                busy = self._attempt(requests, left, answers, budget)
            except DeliveryError as error:
                if attempt:  # the requests of earlier attempts may have arrived
                    raise DeliveryError(f"{silent.format(attempt)}, and then {error}; {unsure}") from None
                raise
            if busy:
                raise BusyError(f"the ingester at {self.addr} is busy: its journal is full; send again later")
        if len(answers) < len(requests):
            raise DeliveryError(f"{silent.format(budget.attempts)}; {unsure}")

    def event(self, type: str, context: Mapping[str, Any], extra: Any = None) -> Receipt:
        """Send one event; see `send`."""
        return self.send([document(type, context, extra)])

    def refuse(self, refusals: Iterable[Refusal], id_: str = "") -> None:
        """Forward input that the caller itself refused; it is on the ingester's disk, for quarantine, on return.

        Raise `DeliveryError` as `send` does. Repeating the call with the same refusals and `id_`, of 1 to 256
        characters, quarantines nothing twice.
        """
        id_ = id_ or uuid.uuid4().hex
        documents = [refused_document(refusal, id_) for refusal in refusals]
        self._deliver(list(_requests(documents, self._request_events)), self._budget)

    def _attempt(
        self, requests: list[list[bytes]], left: deque[int], answers: dict[int, dict[str, Any]], budget: _RetryBudget
    ) -> bool:
        """Send the requests `left` over one socket and collect the answers; return whether the ingester was busy."""
        dealer = self._checkout()
        try:
            dealer.wait_until_ready(min(budget.connect_timeout_s, budget.timeout_s))
            under_way, busy = self._exchange(dealer.socket, requests, left, answers, budget)
        except BaseException:
            dealer.close()
            raise
        if under_way:  # late answers may still arrive on this socket, so it is not reused
            dealer.close()
        else:
            self._give_back(dealer)
        return busy

    def _exchange(
        self,
        socket: zmq.Socket[bytes],
        requests: list[list[bytes]],
        left: deque[int],
        answers: dict[int, dict[str, Any]],
        budget: _RetryBudget,
    ) -> tuple[dict[bytes, int], bool]:
        """Return the requests that were not answered in time, and whether one was answered with `busy`."""
        under_way: dict[bytes, int] = {}
        busy, size = False, 0
        deadline = time.monotonic() + budget.timeout_s
        while left or under_way:
            while left and len(under_way) < REQUESTS_UNDER_WAY and (size < BYTES_UNDER_WAY or not under_way):
                request_id, number = uuid.uuid4().bytes, left.popleft()
                body = b"".join(requests[number])
                under_way[request_id] = number
                size += len(body)
                try:
                    socket.send_multipart([request_id, *self._source, body], zmq.NOBLOCK)
                except zmq.Again:  # the connection broke: the requests under way will not be answered
                    return under_way, busy
            if not gevent_wait.wait(socket, zmq.POLLIN, deadline - time.monotonic()):
                break
            request_id, answer = self._answer(socket.recv_multipart())
            answered = under_way.pop(request_id, None)
            if answered is None:
                continue
            size -= sum(map(len, requests[answered]))
            deadline = time.monotonic() + budget.timeout_s
            if answer.get("busy"):
                busy = True
                left.clear()
            else:
                answers[answered] = answer
        return under_way, busy

    def _answer(self, frames: list[bytes]) -> tuple[bytes, dict[str, Any]]:
        try:
            return frames[0], bson.decode(frames[1])
        except (BSONError, IndexError) as error:
            raise DeliveryError(f"the program that answers at {self.addr} is not an ingester: {error}") from None

    def _checkout(self) -> AckConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return AckConnection(self.addr, self._keys)

    def _give_back(self, dealer: AckConnection) -> None:
        with self._lock:
            if len(self._idle) < IDLE_SOCKETS:
                self._idle.append(dealer)
                return
        dealer.close()

    def close(self) -> None:
        """Close idle sockets and the files of the spool without waiting. A later `send` opens them again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for dealer in idle:
            dealer.close()
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> AcknowledgedClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


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

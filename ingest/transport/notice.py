"""Notices: small BSON messages on the ingester's PUB socket. They can be lost, so subscribers must poll as well."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import bson
import zmq

from ..log_limit import LogLimit
from ..wire.command_check import AGG_COMPLETE, COMMITTED, command_fault
from . import gevent_wait
from .address import allow_ipv6
from .client_keys import ClientKeys, as_client
from .handshake import Handshake

log = logging.getLogger(__name__)

NOTICES = frozenset({AGG_COMPLETE})  # those that a receiver accepts from others and publishes
HIGH_WATER_COUNT = 1_000  # notices queued for a slow subscriber
KNOWN = NOTICES | {COMMITTED}
RECONNECT_S = 5.0  # pause before reconnecting after a refusal
LOG_EVERY_S = 30.0
_log_limit = LogLimit(LOG_EVERY_S)

Notice = dict[str, Any]


def committed(through: int, count: int) -> bytes:
    """Return the notice that events up to id `through` can be read, `count` of them stored since the last notice."""
    return bson.encode({"$command": COMMITTED, "through": through, "count": count})


def agg_complete(name: str, through: int, docs: int) -> bytes:
    """Return the notice that aggregate `name` contains the events up to `through`; the BSON receiver publishes it."""
    return bson.encode({"$command": AGG_COMPLETE, "name": name, "through": through, "docs": docs})


class Subscription:
    """A subscriber's socket, for one thread or greenlet. Raise `zmq.ZMQError` for an address that cannot be used."""

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self._address, self._keys = address, keys
        self._logged, self._reconnect_at = "", 0.0
        self.ignored_count = 0  # messages that were no notices
        self._open()

    def _open(self) -> None:
        self._socket = gevent_wait.context().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        as_client(self._socket, self._keys)
        allow_ipv6(self._socket, self._address)
        self._handshake = Handshake(self._socket, with_keys=self._keys is not None)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_COUNT)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            self._socket.connect(self._address)
        except zmq.ZMQError:
            self.close()
            raise

    def receive(self, timeout_s: float | None = None) -> Notice | None:
        """Return the next notice; None if none arrives within `timeout_s`.

        A message that is no notice, or one with a missing or wrong field, counts as none: it is counted, and logged
        with a limit.
        """
        if not self._wait(math.inf if timeout_s is None else timeout_s):
            return None
        try:
            message = self._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None
        try:
            notice = bson.decode(message)
            fault = command_fault(notice) or ("" if notice["$command"] in KNOWN else "it is for receivers only")
        except Exception as error:  # noqa: BLE001 - untrusted bytes: the decoder can fail in any way
            fault = f"not BSON: {error!r:.200}"
        if not fault:
            return notice
        self.ignored_count += 1
        if _log_limit.allows(self._address):
            log.warning(
                "message is no notice and is ignored address=%s ignored=%d error=%s",
                self._address, self.ignored_count, fault,
            )  # fmt: skip
        return None

    def _wait(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not self._socket.poll(int(max(0.0, min(deadline - time.monotonic(), RECONNECT_S)) * 1000)):
            self._check_handshake()
            if time.monotonic() >= deadline:
                return False
        return True

    def _check_handshake(self) -> None:
        """Log a refusal once, and reconnect every `RECONNECT_S`, because ZeroMQ does not always retry."""
        self._handshake.poll()
        fault = self._handshake.fault
        if fault and fault != self._logged:
            log.warning("no notices: the ingester refuses the connection address=%s reason=%s", self._address, fault)
        if fault or self._handshake.done:
            self._logged = fault
        if self._handshake.never_retries and time.monotonic() >= self._reconnect_at:
            self._reconnect_at = time.monotonic() + RECONNECT_S
            self.close()
            self._open()

    def close(self) -> None:
        """Close the socket. Can be called twice."""
        self._handshake.close()
        self._socket.close(linger=0)

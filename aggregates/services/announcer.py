"""Publish that an aggregate has moved on: send `agg_complete` to the ingester's BSON socket."""

from __future__ import annotations

import logging
from collections.abc import Callable

import zmq
from django.conf import settings

from aggregates.run.outcome import Outcome
from ingest.transport.address import allow_ipv6
from ingest.transport.client_keys import ClientKeys, as_client
from ingest.transport.notice import agg_complete

log = logging.getLogger(__name__)
LINGER_MS = 1_000
HIGH_WATER_COUNT = 1_000


class Announcer:
    """Send notices over a PUSH socket that follows the ingester's address. For one thread. Notices may be lost."""

    def __init__(self, address: Callable[[], str], keys: Callable[[], ClientKeys | None] = lambda: None) -> None:
        self._address = address
        self._keys = keys
        self._connected = ""
        self._socket: zmq.Socket[bytes] | None = None

    def announce(self, outcome: Outcome) -> None:
        """Announce one outcome; neither blocks nor raises if the ingester is down."""
        through = outcome.through if isinstance(outcome.through, int) else 0
        try:
            message = agg_complete(outcome.name, through, outcome.counts.docs_in)
            socket = self._connect()
            if socket is not None:
                socket.send(message, zmq.NOBLOCK)
        except Exception as error:  # noqa: BLE001 - a notice is only a hint and can be lost
            log.debug("agg_complete not sent aggregate=%s error=%s", outcome.name, error)
            self.close()  # ZeroMQ does not reconnect after its keys were refused; the next outcome does

    def _connect(self) -> zmq.Socket[bytes] | None:
        try:
            address, keys = self._address(), self._keys()
        except Exception as error:
            if getattr(error, "code", None) is None:
                raise
            return None
        if self._socket is None or address != self._connected:
            self.close()
            self._socket = zmq.Context.instance().socket(zmq.PUSH)
            self._socket.setsockopt(zmq.LINGER, LINGER_MS)
            self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER_COUNT)
            as_client(self._socket, keys)
            allow_ipv6(self._socket, address)
            self._socket.connect(address)
            self._connected = address
        return self._socket

    def close(self) -> None:
        """Close the socket; drops what cannot be sent within a second. May be called twice."""
        if self._socket is not None:
            self._socket.close(linger=LINGER_MS)
            self._socket = None


def announce_once(outcome: Outcome) -> None:
    """Announce one outcome over a temporary socket, for processes that rarely do so."""
    config = settings.ZARKOV
    announcer = Announcer(lambda: config.connect_address("bson_bind_address"), config.client_keys)
    announcer.announce(outcome)
    announcer.close()

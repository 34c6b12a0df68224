"""The backend `statsd`: lines `name:value|type` over UDP or TCP.

Over TCP each delivery has its own connection; lines leave the queue once statsd has read it to the end and closed it.
If a connection breaks, the delivery is repeated, and lines that statsd had read already count twice.

Format: https://github.com/statsd/statsd/blob/master/docs/metric_types.md. The distribution of a timer is kept: each
bucket of its sketch is sent as one value, with one divided by the bucket's count as the sampling rate.
"""

from __future__ import annotations

import argparse
import logging
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from ingest.log_limit import LogLimit
from ingest.metrics.backend.interface import Backend
from ingest.metrics.backend.rollup import RollupEntry
from ingest.metrics.backend.text_protocol import path, path_prefix
from ingest.metrics.exceptions import PostponedError
from ingest.metrics.identity import Identity
from ingest.metrics.metric_type import COUNTER, GAUGE, HISTOGRAM, SET, TIMER
from ingest.number_text import plain_decimal, whole_number

log = logging.getLogger(__name__)

PORT = 8125
DATAGRAM_BYTES = 1_400  # fits into one Ethernet packet
TIMEOUT_S = 5.0
WARNING_EVERY_S = 3600.0  # for values of one metric; `refused` counts them all


class StatsdBackend(Backend):
    name = "statsd"
    help = "to a statsd server"

    @classmethod
    def add_arguments(cls, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="statsd's host")
        parser.add_argument("--port", type=whole_number, default=PORT, help=f"statsd's port (default {PORT})")
        parser.add_argument("--protocol", choices=["udp", "tcp"], default="udp", help="how it listens (default udp)")
        parser.add_argument("--prefix", type=path_prefix, default="", help="put before each name, such as shop.")

    def connect(self) -> None:
        self._connection: socket.socket | None = None
        self._warnings = LogLimit(WARNING_EVERY_S)

    def pack(self) -> list[Any]:
        """Return datagrams, each of as many lines as fit."""
        prefix = self.options.own.get("prefix", "")
        payloads: list[Any] = []
        size = DATAGRAM_BYTES
        for identity, _, found in self.gathered.collect():
            self._refuse_negative(identity, found)
            for line in lines(identity, found, prefix):
                if size + len(line) + 1 > DATAGRAM_BYTES:
                    payloads.append([])
                    size = 0
                payloads[-1].append(line)
                size += len(line) + 1
        return [b"\n".join(payload) + b"\n" for payload in payloads]

    def _refuse_negative(self, identity: Identity, found: RollupEntry) -> None:
        """Count what statsd takes for a bad line: times, and the values of histograms, must not be negative."""
        if identity.type not in {TIMER, HISTOGRAM} or not (count := found.sketch.negative.total()):
            return
        self.refused += count
        if self._warnings.allows(identity.name):
            log.warning("negative values refused, statsd has none name=%s count=%d", identity.name, count)

    def deliver(self, payloads: Sequence[Any]) -> int:
        """Send in order. Over UDP, accepted only means that the port is open; a closed port shows in the next send."""
        own = self.options.own
        if own["protocol"] == "tcp":
            return send_stream("statsd", own["host"], own["port"], payloads)
        sent = 0
        try:
            for payload in payloads:
                connection = self._connection or self._open()
                connection.sendall(payload)
                sent += 1
        except OSError as error:
            self.end()
            if not sent:
                raise _postponed("statsd", own["host"], own["port"], error) from None
        return sent

    def _open(self) -> socket.socket:
        own = self.options.own
        family, kind, protocol, _, where = socket.getaddrinfo(own["host"], own["port"], type=socket.SOCK_DGRAM)[0]
        made = socket.socket(family, kind, protocol)
        made.settimeout(TIMEOUT_S)
        try:
            made.connect(where)
        except OSError:
            made.close()
            raise
        self._connection = made
        return made

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def send_stream(server: str, host: str, port: int, payloads: Sequence[bytes]) -> int:
    """Send over one TCP connection. Return their number once the server has read all of them, by closing.

    Raise `PostponedError`, which names `server`.
    """
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as connection:
            connection.sendall(b"".join(payloads))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    except OSError as error:
        raise _postponed(server, host, port, error) from None
    return len(payloads)


def _postponed(server: str, host: str, port: int, error: OSError) -> PostponedError:
    return PostponedError(f"delivery to {server} at {host}:{port} failed: {error}")


def lines(metric: Identity, found: RollupEntry, prefix: str) -> Iterator[bytes]:
    """Yield the lines of one metric and flush, without those of negative times, which statsd cannot read."""
    name = path(metric, prefix)
    if metric.type == COUNTER:
        yield f"{name}:{plain_decimal(found.sum)}|c{_rate(metric.rate)}".encode()
    elif metric.type == GAUGE:
        if found.last is None:
            return
        if found.last < 0:
            yield f"{name}:0|g".encode()  # statsd reads a signed value as a change
        yield f"{name}:{plain_decimal(found.last)}|g".encode()
    elif metric.type == SET:
        for hash_ in sorted(found.distinct.hashes):
            yield f"{name}:{hash_}|s".encode()
    else:
        factor = 1000 if metric.type == TIMER else 1  # statsd's timers are in milliseconds
        for value, count in found.sketch.buckets():
            if value < 0:
                continue  # counted by the caller
            yield f"{name}:{plain_decimal(value * factor, 6)}|ms{_rate(metric.rate / count)}".encode()


def _rate(rate: float) -> str:
    return "" if rate == 1 else f"|@{plain_decimal(rate, 12)}"

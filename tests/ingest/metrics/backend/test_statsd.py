"""The backend `statsd`: every type over UDP and TCP, and nothing lost over TCP."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ingest.metrics.backend.interface import Backend
from ingest.metrics.backend.statsd import StatsdBackend
from tests.support.ingest.backends import RecordingServer, made
from tests.support.ports import reserved_ports
from tests.support.waiting import eventually

Closing = Callable[[Any], Any]


def test_lines_over_tcp_count_as_delivered_only_once_statsd_has_read_them(closing: Closing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        backend = made(StatsdBackend, host="127.0.0.1", port=port, protocol="tcp", prefix="")

        def read_once(*, whole: bool) -> None:
            line, _ = first.accept()
            with line:
                while line.recv(65536 if whole else 2) and whole:
                    pass

        for value, whole, delivered in ((1, True, True), (10, False, False)):
            reader = threading.Thread(target=read_once, kwargs={"whole": whole})
            reader.start()
            backend.handle_message(f"info|Counter|c|{value}|5|x")
            assert backend.flush() is delivered
            reader.join(10)
    assert (backend.delivered, len(backend.payloads)) == (1, 1)
    backend.options.own["port"] = closing(server := RecordingServer()).port  # as after a restart
    backend.handle_message(b"info|Counter|c|100|5|x")
    backend._try_at = 0.0
    assert backend.flush()
    eventually(lambda: server.received)
    assert server.received == [b"x.c:10|c\nx.c:100|c\n"]


def test_statsd_receives_every_type_over_udp_and_tcp(closing: Closing) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        backend = made(StatsdBackend, host="127.0.0.1", port=server.getsockname()[1], protocol="udp", prefix="p.")
        _fill(backend)
        assert backend.flush()
        _check_statsd(server.recv(65536))
        backend.end()
    tcp = closing(RecordingServer())
    backend = made(StatsdBackend, host="127.0.0.1", port=tcp.port, protocol="tcp", prefix="p.")
    _fill(backend)
    assert backend.flush()
    backend.end()
    eventually(lambda: tcp.received)
    _check_statsd(tcp.received[0])


def _fill(backend: Backend) -> None:
    for _ in range(4):
        backend.handle_message(b"info|Timer|t|0.25|5|not_specified")
    backend.handle_message(b"info|Counter|c|2.5|5|src")
    backend.handle_message(b"info|Gauge|g|-3|5|not_specified")
    backend.handle_message(b"info|Set|s|me|5|not_specified")


def _check_statsd(received: bytes) -> None:
    timer, counter, zero, gauge, members = received.decode().splitlines()
    value = re.fullmatch(r"p\.t:(.*)\|ms\|@0\.25", timer)
    assert value
    assert float(value[1]) == pytest.approx(250, rel=0.01)
    assert (counter, zero, gauge) == ("p.src.c:2.5|c", "p.g:0|g", "p.g:-3|g")
    assert re.fullmatch(r"p\.s:\d+\|s", members)


def test_nothing_is_lost_over_tcp_while_statsd_is_down(closing: Closing) -> None:
    (port,) = reserved_ports()
    backend = made(StatsdBackend, host="127.0.0.1", port=port, protocol="tcp", prefix="")
    _fill(backend)
    assert not backend.flush()
    assert len(backend.payloads) == 1


def test_negative_times_are_counted_as_refused_since_statsd_has_none() -> None:
    backend = made(StatsdBackend, host="127.0.0.1", port=1, protocol="udp", prefix="")
    for value in (b"-1", b"-2.5", b"0", b"2"):
        backend.handle_message(b"info|Timer|t|" + value + b"|5|not_specified")
    (payload,) = backend.pack()
    values = [float(line.split(b":")[1].split(b"|")[0]) for line in payload.splitlines()]
    assert values == [0, pytest.approx(2_000, rel=0.01)]
    assert backend.refused == 2


def test_negative_gauges_and_counters_are_delivered_and_not_refused(caplog: pytest.LogCaptureFixture) -> None:
    backend = made(StatsdBackend, host="127.0.0.1", port=1, protocol="udp", prefix="")
    for line in (b"Gauge|g|-0.5", b"Counter|c|-2", b"Set|s|-1"):
        backend.handle_message(b"info|" + line + b"|5|not_specified")
    (payload,) = backend.pack()
    assert payload.startswith(b"g:0|g\ng:-0.5|g\nc:-2|c\ns:")
    assert (backend.refused, caplog.messages) == (0, [])


def test_values_refused_again_and_again_are_counted_each_time_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    backend = made(StatsdBackend, host="127.0.0.1", port=1, protocol="udp", prefix="")
    for _ in range(3):
        for name in (b"a", b"b"):
            backend.handle_message(b"info|Histogram|" + name + b"|-1|5|not_specified")
        backend.pack()
    assert backend.refused == 6
    assert caplog.messages == [f"negative values refused, statsd has none name={name} count=1" for name in ("a", "b")]

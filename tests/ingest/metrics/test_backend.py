"""The common behaviour of backends, and what each sends to its target."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import zmq

from ingest.metrics import Zibrato
from ingest.metrics.backend import interface
from ingest.metrics.backend.backend_lookup import backend_names, load_backend
from ingest.metrics.backend.graphite import GraphiteBackend
from ingest.metrics.backend.interface import Backend, BackendOptions
from ingest.metrics.backend.librato import LibratoBackend
from ingest.metrics.backend.log import LogBackend
from ingest.metrics.backend.statsd import StatsdBackend
from ingest.metrics.backend.zarkov import ZarkovBackend
from ingest.metrics.exceptions import BackendError, PostponedError
from ingest.metrics.identity import Identity
from ingest.metrics.wire import Batch, pack_batch
from ingest.transport.socket_drain import RECEIVE_COUNT
from tests.support.ingest.metrics import Running, RunningBroker
from tests.support.waiting import eventually as wait_for

Make = Callable[..., Zibrato]
Closing = Callable[[Any], Any]


class Collecting(Backend):
    """Deliver to a list, or refuse to."""

    name = "collecting"
    parcels_at_once = 2

    def connect(self) -> None:
        self.accepted: list[Any] = []
        self.away = False
        self.attempts = 0

    def pack(self) -> list[Any]:
        return [(identity.name, found.sum) for identity, _, found in self.gathered.collect()]

    def deliver(self, parcels: Sequence[Any]) -> int:
        self.attempts += 1
        if self.away:
            raise PostponedError("away")
        self.accepted += parcels
        return len(parcels)


def made(kind: type[Backend] = Collecting, *levels: str, flush_s: float = 1e6, **own: Any) -> Any:
    backend = kind(BackendOptions("tcp://127.0.0.1:1", levels, flush_s, own))
    backend.connect()
    return backend


def batch(name: str = "a", level: str = "info", sequence: int = 0, **more: Any) -> bytes:
    who = Identity(level, more.pop("type", "Counter"), name, more.pop("source", "x"), more.pop("tags", ()))
    publisher = "p" if sequence else ""
    return pack_batch(
        Batch(who, 1_300_000_000, **{"count": 1, "sum": 1, "publisher": publisher, **more}, sequence=sequence)
    )


def test_a_stopping_backend_receives_everything_that_was_forwarded(broker: RunningBroker) -> None:
    backend = Collecting(BackendOptions(broker.backends, (), 1e6))
    backend.start()
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.setsockopt(zmq.SNDHWM, 0)
        publisher.connect(broker.publishers)
        assert publisher.poll(20_000), "the backend has subscribed"
        for _ in range(3 * RECEIVE_COUNT):
            publisher.send(b"info|Counter|a|1|5|x")
        wait_for(lambda: broker.service.totals.messages == 3 * RECEIVE_COUNT, 60)
        backend.stop()
        publisher.close(linger=0)
    assert backend.accepted == [("a", 3 * RECEIVE_COUNT)]


def test_levels_are_matched_exactly(broker: RunningBroker, zibrato: Make, closing: Closing) -> None:
    backend = Collecting(BackendOptions(broker.backends, ("info", "war|n"), 0.05))
    backend.start()
    z = zibrato(interval=0.01)
    closing(Running(backend))
    for level in ("info", "information", "inf", "warn", "war|n"):
        z.send(level=level, mtype="Counter", name=level, value=1)
    wait_for(lambda: {name for name, _ in backend.accepted} >= {"info", "war|n"})
    assert z.statistics().waiting == 3  # no backend subscribes to them: they were not even sent
    other = made(Collecting, "info")
    for level in ("info", "information"):
        other.handle_message(batch(level, level))
    other.flush()
    assert other.accepted == [("info", 1)]


def test_a_backend_flushes_by_time_even_when_nothing_arrives(
    broker: RunningBroker, zibrato: Make, closing: Closing
) -> None:
    backend = Collecting(BackendOptions(broker.backends, (), 0.3))
    backend.start()
    closing(Running(backend))
    z = zibrato()
    z.send(mtype="Counter", name="one", value=1)
    z.flush(10)
    wait_for(lambda: backend.accepted == [("one", 1)])


def test_parcels_are_kept_until_they_are_accepted_and_pauses_double(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(interface.time, "monotonic", lambda: now)
    backend = made()
    backend.away = True
    for name in ("a", "b", "c", "a"):
        backend.handle_message(batch(name))
    assert not backend.flush()
    pauses = []
    for _ in range(9):
        before, attempts = now, backend.attempts
        while backend.attempts == attempts:
            now += 0.25
            backend.flush()
        pauses.append(now - before)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backend.parcels == [("a", 2), ("b", 1), ("c", 1)]
    backend.away = False
    backend.handle_message(batch("d"))
    now += 60
    assert backend.flush()
    assert backend.accepted == [("a", 2), ("b", 1), ("c", 1), ("d", 1)]


def test_a_backend_stops_receiving_while_too_much_waits_and_loses_nothing(
    broker: RunningBroker, zibrato: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "MOST_PARCELS", 5)
    monkeypatch.setattr(interface, "MOST_METRICS", 3)
    monkeypatch.setattr(interface, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(interface, "LONGEST_RETRY_S", 0.01)
    backend = Collecting(BackendOptions(broker.backends, (), 0.01))
    backend.start()
    backend.away = True
    z = zibrato()
    try:
        for n in range(50):
            z.send(mtype="Counter", name=f"n{n}", value=1)
            assert z.flush(10)
            backend.step(0.05)
        assert len(backend.parcels) < 20
        backend.away = False
        wait_for(lambda: backend.step(0.05) or len(backend.accepted) == 50)
        assert backend.delivery_count.lost_batches == 0
    finally:
        backend.stop()


def test_a_parcel_that_cannot_be_delivered_is_refused_and_the_others_are_delivered() -> None:
    backend = made()
    deliver = backend.deliver

    def fails(parcels: Sequence[Any]) -> int:
        if any(name == "bad" for name, _ in parcels):
            raise TypeError("not this one")
        return int(deliver(parcels))

    backend.deliver = fails
    for name in ("a", "b", "bad", "c", "bad2", "d"):
        backend.handle_message(batch(name))
    assert backend.flush()
    assert [name for name, _ in backend.accepted] == ["a", "b", "c", "bad2", "d"]
    assert backend.refused == 1


@pytest.mark.parametrize("kind", [LogBackend, GraphiteBackend, StatsdBackend, Collecting])
def test_no_message_of_another_program_ends_a_backend(kind: type[Backend]) -> None:
    backend = made(kind, prefix="")
    strange: list[dict[str, Any]] = [
        {"type": kind_, "count": count, "sum": total, "min": 1, "max": 1, "last": 1, "sketch": sketch}
        for kind_ in ("Timer", "Counter", "Set", "Gauge")
        for count in (0, 1, 2**62, 2**62 + 1)
        for total in (2**62, 1e308)
        for sketch in (
            None, {}, {"positive": [35_488, count]}, {"positive": [100_000, 1]}, {"positive": [10**30, 1]},
            {"positive": [1, -1]}, {"zero": -1}, {"hashes": [2**70]}, {"hashes": []}, {"negative": [-37_220, count]},
        )
    ]  # fmt: skip
    for value in strange:
        backend.handle_message(f"info|Batch|a|{json.dumps(value)}|5|x")
    backend.handle_message(b"info|Batch|x|" + b"[" * 200_000 + b"|1|s")
    backend.handle_message(b"info|Counter|good|1|5|x")
    assert backend.unreadable > 100
    assert any("good" in str(parcel) for parcel in backend.pack())


def test_gaps_in_the_sequence_are_counted_exactly() -> None:
    backend = made()
    backend.handle_message(batch(sequence=5, before=50, count=10))
    backend.handle_message(batch(sequence=6, before=60, count=10))
    backend.handle_message(batch(sequence=9, before=100, count=1))
    backend.handle_message(batch(level="warn", sequence=1, before=0, count=1))
    backend.handle_message(b"nonsense")
    assert (backend.delivery_count.lost_batches, backend.delivery_count.lost_measurements) == (2, 30)
    assert (backend.delivery_count.batches, backend.delivery_count.measurements, backend.unreadable) == (4, 22, 1)


def test_backends_are_found_by_name_and_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[zarkov.backends]\nother = {__name__}:Collecting\nbroken = no.such:Thing\nwrong = json:loads\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_backend("other").name == "collecting"
    assert {"zarkov", "librato", "statsd", "graphite", "log", "other"} <= set(backend_names())
    own = ("zarkov", "librato", "statsd", "graphite", "log")
    assert [load_backend(name).name for name in own] == list(own)
    for name, text in (("unknown", "use broken, graphite"), ("broken", "No module"), ("wrong", "not a subclass")):
        with pytest.raises(BackendError, match=text):
            load_backend(name)


def test_the_log_backend_logs_one_line_per_metric(caplog: pytest.LogCaptureFixture) -> None:
    backend = made(LogBackend)
    for n in range(100):
        backend.handle_message(f"info|Timer|t|{n / 100}|5|x")
    backend.handle_message(b"info|Counter|c|2|5|x")
    backend.handle_message(b"info|Set|s|me|5|x")
    with caplog.at_level("INFO"):
        backend.flush()
    assert [r.message for r in caplog.records if r.name == "zarkov.metrics"] == [
        "info Counter c x count=1 sum=2",
        "info Set s x count=1 distinct=1",
        "info Timer t x count=100 mean=0.495 min=0 max=0.99 p50=0.491608 p95=0.932345 p99=0.970396",
    ]


# The other sides, made from the published protocols


class Server:
    """Accept connections one after the other and record what each sent."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                line, _ = self.listening.accept()
            except OSError:
                return
            with line:
                received = b""
                while data := line.recv(65536):
                    received += data
                self.received.append(received)

    def close(self) -> None:
        if self.listening.fileno() < 0:
            return
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self._thread.join(10)


def test_graphite_receives_lines_which_leave_the_queue_once_it_has_read_them(closing: Closing) -> None:
    server = closing(Server())
    backend = made(GraphiteBackend, host="127.0.0.1", port=server.port, prefix="z.")
    backend.handle_message(batch("calls", sum=7, count=3, tags=(("a", "b"),)))
    backend.handle_message(
        batch("my time", type="Timer", sum=3.0, count=2, min=1.0, max=2.0, last=2.0, sketch={"positive": [1, 2]})
    )
    before = int(time.time())
    assert backend.flush()
    found = [line.split() for line in server.received[0].decode().splitlines()]
    assert {name: float(value) for name, value, _ in found if "calls" in name} == {
        "z.x.calls.a_b.count": 3, "z.x.calls.a_b.sum": 7,
    }  # fmt: skip
    assert {name.rpartition(".")[2] for name, _, _ in found if "my_x20time" in name} == {
        "count", "mean", "min", "max", "last", "p50", "p95", "p99",
    }  # fmt: skip
    assert all(before <= int(when) <= time.time() for _, _, when in found)
    server.close()
    backend.handle_message(batch("late", sum=1))
    assert not backend.flush()
    assert len(backend.parcels) == 2


def test_metrics_with_the_same_graphite_path_are_merged_unless_their_types_differ() -> None:
    backend = made(GraphiteBackend, prefix="")

    def flushed() -> dict[str, float]:
        return {line.split()[0].decode(): float(line.split()[1]) for line in backend.pack()}

    timer: dict[str, Any] = {"type": "Timer", "min": 1, "max": 3, "last": 2}
    backend.handle_message(batch("a", sum=2))
    backend.handle_message(batch("a", "warn", sum=3))
    backend.handle_message(batch("a", count=2, sum=6, **timer))
    backend.handle_message(pack_batch(Batch(Identity("info", "Counter", "a", "x", rate=0.1), 5, 1, 1)))
    backend.handle_message(pack_batch(Batch(Identity("info", "Set", "a", "x"), 5, 1, 1, sketch={"hashes": [1]})))
    for name in ("ä", "ö", "_", "_xC3_xA4", "c d", "c_d"):
        backend.handle_message(batch(name))
    found = flushed()
    assert (found["x.a.count"], found["x.a.sum"]) == (12, 15)
    assert (found["x.a.timer.count"], found["x.a.timer.mean"], found["x.a.timer.last"]) == (2, 3, 2)
    assert (found["x.a.set.count"], found["x.a.set.distinct"]) == (1, 1)
    sums = {name for name in found if name.endswith(".sum")}
    assert sums == {
        f"x.{name}.sum" for name in ("a", "_xC3_xA4", "_xC3_xB6", "_", "_x5FxC3_x5FxA4", "c_x20d", "c_d")
    }  # fmt: skip
    backend.handle_message(batch("a", count=2, sum=6, **timer))
    assert set(flushed()) == {name for name in found if ".a.timer." in name}  # also when it comes alone


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
    assert (backend.delivered, len(backend.parcels)) == (1, 1)
    backend.options.own["port"] = closing(server := Server()).port  # as after a restart
    backend.handle_message(b"info|Counter|c|100|5|x")
    backend._try_at = 0.0
    assert backend.flush()
    wait_for(lambda: server.received)
    assert server.received == [b"x.c:10|c\nx.c:100|c\n"]


def test_many_separate_items_cause_an_early_flush_too(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"username": "me", "apitoken": "x", "url": "http://127.0.0.1:1", "ingester": "tcp://127.0.0.1:1"}
    for kind, type_ in ((LibratoBackend, "Timer"), (ZarkovBackend, "Counter")):
        backend = made(kind, **own)
        for number in range(10):
            backend.handle_message(
                f"info|{type_}|t|{number}|5|x" if kind is LibratoBackend else batch(sequence=number + 1)
            )
        assert backend.unpacked_count() == 10
        backend.parcels = [None] * interface.MOST_PARCELS  # nothing is received meanwhile
        monkeypatch.setattr(interface, "MOST_METRICS", 10)
        backend._try_at = time.monotonic() + 1000
        backend.address = backend.options.address  # as if connected
        backend.step(0)
        assert backend.unpacked_count() == 0
        assert len(backend.parcels) == interface.MOST_PARCELS + 10


def test_statsd_receives_every_type_over_udp_and_tcp(closing: Closing) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        backend = made(StatsdBackend, host="127.0.0.1", port=server.getsockname()[1], protocol="udp", prefix="p.")
        _fill(backend)
        assert backend.flush()
        _check_statsd(server.recv(65536))
        backend.end()
    tcp = closing(Server())
    backend = made(StatsdBackend, host="127.0.0.1", port=tcp.port, protocol="tcp", prefix="p.")
    _fill(backend)
    assert backend.flush()
    backend.end()
    wait_for(lambda: tcp.received)
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
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    backend = made(StatsdBackend, host="127.0.0.1", port=port, protocol="tcp", prefix="")
    _fill(backend)
    assert not backend.flush()
    assert len(backend.parcels) == 1


@pytest.fixture
def librato() -> Iterator[HTTPServer]:
    """Librato's API of 2013: basic login, gauges in JSON, 200; refuses gauges with a bad name."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server: Any = self.server
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = server.codes.pop(0) if server.codes else 200
            if any(gauge["name"] == "bad" for gauge in body["gauges"]):
                code = 400
            if code == 200:
                server.gauges += body["gauges"]
                server.logins.append(self.headers["Authorization"])
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server: Any = HTTPServer(("127.0.0.1", 0), Handler)
    server.codes, server.gauges, server.logins = [], [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_librato_receives_gauges_as_in_2013(librato: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "FIRST_RETRY_S", 0.0)
    url = f"http://127.0.0.1:{librato.server_port}/v1/metrics"
    backend = made(LibratoBackend, username="me", apitoken="secret", url=url)
    for value, source in ((5, "a"), (2, "a"), (0, "a"), (1, "b")):
        backend.handle_message(f"info|Counter|calls|{value}|5|{source}")
    backend.handle_message(batch("calls", source="a", sum=10, count=10))
    backend.handle_message(b"info|Timer|my timer|0.5|1300000000|my prog")
    backend.handle_message(b"info|Gauge|g|0|1300000000|not_specified")
    backend.handle_message(batch("t", type="Timer", count=3, sum=6.0, min=1.0, max=3.0, last=2.0, sketch={}))
    librato.codes = [503, 401]
    assert not backend.flush()
    backend.flush()
    assert librato.gauges == []
    assert backend.flush()
    by_name = {(gauge["name"], gauge.get("source")): gauge for gauge in librato.gauges}
    assert by_name["calls", "a"]["value"] == 17
    assert by_name["calls", "b"]["value"] == 1
    assert by_name["my:timer", "my:prog"] == {
        "name": "my:timer", "source": "my:prog", "measure_time": 1300000000, "value": 0.5,
    }  # fmt: skip
    assert by_name["g", None]["value"] == 0
    assert {key: by_name["t", "x"][key] for key in ("count", "sum", "min", "max")} == {
        "count": 3, "sum": 6, "min": 1, "max": 3,
    }  # fmt: skip
    assert librato.logins == ["Basic " + base64.b64encode(b"me:secret").decode()]


def test_one_gauge_that_librato_refuses_does_not_stop_the_others(librato: Any) -> None:
    url = f"http://127.0.0.1:{librato.server_port}/v1/metrics"
    backend = made(LibratoBackend, username="me", apitoken="secret", url=url)
    for name in ("a", "b", "bad", "c", "d"):
        backend.handle_message(f"info|Gauge|{name}|1|5|x")
    assert backend.flush()
    assert sorted(gauge["name"] for gauge in librato.gauges) == ["a", "b", "c", "d"]
    assert backend.refused == 1


def test_the_librato_backend_does_not_start_without_a_login() -> None:
    with pytest.raises(BackendError, match="username"):
        made(LibratoBackend, username="", apitoken="", url="x")

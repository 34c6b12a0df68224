"""The backend `librato`: gauges as in 2013."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from ingest.metrics.backend import interface
from ingest.metrics.backend.librato import LibratoBackend
from ingest.metrics.exceptions import BackendError
from tests.support.ingest.backends import batch, made


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

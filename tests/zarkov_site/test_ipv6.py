"""The web server, the ingester and the metrics broker on IPv6."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ingest.metrics import Zibrato
from tests.support.waiting import eventually
from tests.support.web.server import Server
from zarkov_site.config.config import Config
from zarkov_site.exceptions import SiteError
from zarkov_site.processes import parts

pytestmark = pytest.mark.early


def scoped_address() -> str:
    """Return a link-local address with its scope; where there is none, loopback with one (RFC 4007, section 11)."""
    for interface in psutil.net_if_addrs().values():
        for address in interface:
            if address.family == socket.AF_INET6 and address.address.startswith("fe80") and "%" in address.address:
                return address.address
    return "::1%lo"


@pytest.fixture(scope="module", params=["::1", "[::1]", "::"])
def server(
    request: pytest.FixtureRequest, mongo_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    sockets = {f"ZARKOV_{key}_BIND_ADDRESS": "tcp://[::1]:0" for key in ("BSON", "JSON", "ACK", "PUBLISH")}
    settings = {"ZARKOV_WEB_HOST": request.param, "ZARKOV_ALLOW_INSECURE_BIND": "true", **sockets}
    with Server(mongo_uri, tmp_path_factory.mktemp("ipv6"), **settings) as running:
        yield running


def test_pages_and_events_work(server: Server) -> None:
    address = server.folder.address("web")
    assert address.startswith("http://[") and "[::]" not in address
    assert server.request("readyz")[0] == 200
    assert server.request("")[0] == 200
    assert server.post_events({"type": "six"}) == {"accepted": 1, "rejected": []}
    eventually(lambda: server.database["event.1"].count_documents({"type": "six"}), what="the event")


def test_an_address_may_have_a_scope(tmp_path: Path, mongo_uri: str) -> None:
    scoped = scoped_address()
    with Server(mongo_uri, tmp_path, ZARKOV_WEB_HOST=scoped, ZARKOV_ALLOW_INSECURE_BIND="true") as server:
        address = server.folder.address("web")
        assert address.startswith(f"http://[{scoped.replace('%', '%25')}]:")
        command = ["curl", "-sg", "--fail", f"{address}/collections"]  # which sends the host without the scope
        done = subprocess.run(command, capture_output=True, timeout=90, check=True)
        assert json.loads(done.stdout) == {"options": []}


def test_measurements_pass_a_broker_on_ipv6(tmp_path: Path, mongo_uri: str) -> None:
    with Server(mongo_uri, tmp_path, ZARKOV_METRICS__HOST="::1", ZARKOV_METRICS__PORT="0") as server:
        server.start("broker", sys.executable, "manage.py", "runbroker")
        eventually(lambda: "metrics.backends" in server.folder.addresses(), what="the broker")
        publishers = server.folder.address("metrics.publishers")
        assert publishers.startswith("tcp://[::1]:")
        server.start("backend", sys.executable, "manage.py", "runbackend", "log", "--flush", "1")
        log = server.folder.log / "backend.log"
        with contextlib.closing(Zibrato(address=publishers, interval=0.1)) as zibrato:

            def arrived() -> bool:
                zibrato.gauge(level="info", name="six", value=6)
                return "six" in log.read_text()

            eventually(arrived, what="a measurement")
        server.stop("backend", signal.SIGINT)


def test_a_port_that_is_taken_is_found_on_ipv6(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        config = Config(home=tmp_path, web_host="::1", web_port=taken.getsockname()[1])
        with pytest.raises(SiteError, match=r"web_port: tcp://\[::1\]:\d+ cannot be used"):
            parts.refuse_taken_ports(config)

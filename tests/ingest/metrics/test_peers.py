"""The backends with real servers: carbon from Debian, statsd from npm."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.metrics import Zibrato
from ingest.metrics.backend.graphite import GraphiteBackend
from ingest.metrics.backend.interface import Backend, BackendOptions
from ingest.metrics.backend.statsd import StatsdBackend
from tests.support.ingest.metrics import Running, RunningBroker
from tests.support.ports import reserved_ports
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY

STATSD = REPOSITORY / "node_modules" / "statsd" / "stats.js"
SECONDS = [0.01 * n for n in range(1, 101)]
POWERS = range(-12, 16)
MANY = 25_000  # timers alike, which statsd gets as one value with a sampling rate of 0.00004

Make = Callable[..., Zibrato]
Closing = Callable[[Any], Any]


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a server that listens at its port before it is returned, and stop it at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int, *command: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "server.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
        started.append(process)
        eventually(
            lambda: listens(port) or process.poll() is not None,
            what=f"{command[0]} listens: {(tmp_path / 'server.log').read_text()}",
        )
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(20)


def measure(z: Zibrato) -> None:
    for _ in range(3):
        z.send(mtype="Counter", name="clicks", value=14, source="shop")
    z.gauge(name="queue", value=3)
    z.gauge(name="zero", value=5)
    assert z.flush(20)
    z.gauge(name="zero", value=-0.0)  # statsd reads a sign as a change
    z.set(name="日本語" * 80, value=1)  # 2,880 characters in a path, where a file name has at most 255
    z.gauge(name="queue", value=-7.5)
    for seconds in SECONDS:
        z.send(mtype="Timer", name="page", value=seconds)
    for user in ("ann", "bob", "ann"):
        z.set(name="users", value=user)
    for power in POWERS:
        z.gauge(name=f"power..{power}", value=10.0**power)
        z.send(mtype="Counter", name=f"power.{power}.", value=10.0**power)
    measure_many(z)


def measure_many(z: Zibrato) -> None:
    for _ in range(MANY):
        z.send(mtype="Timer", name="alike", value=0.25)
    assert z.flush(20)


def running(
    kind: type[Backend], broker: RunningBroker, closing: Closing, zibrato: Make, **own: Any
) -> tuple[Backend, Zibrato]:
    backend = kind(BackendOptions(broker.backends, (), 0.5, own))
    backend.start()
    closing(Running(backend))
    return backend, zibrato(interval=0.2)


@pytest.mark.carbon
def test_carbon_stores_what_was_measured(
    tmp_path: Path,
    server: Callable[..., subprocess.Popen[bytes]],
    broker: RunningBroker,
    zibrato: Make,
    closing: Closing,
) -> None:
    lines, pickles, queries = reserved_ports(3)
    folder = tmp_path / "carbon"
    folder.mkdir()
    settings = {
        "STORAGE_DIR": folder, "LOCAL_DATA_DIR": folder / "whisper", "CONF_DIR": folder, "LOG_DIR": folder,
        "PID_DIR": folder, "LINE_RECEIVER_INTERFACE": "127.0.0.1", "LINE_RECEIVER_PORT": lines,
        "PICKLE_RECEIVER_INTERFACE": "127.0.0.1", "PICKLE_RECEIVER_PORT": pickles,
        "CACHE_QUERY_INTERFACE": "127.0.0.1", "CACHE_QUERY_PORT": queries, "MAX_UPDATES_PER_SECOND": "inf",
        "MAX_CREATES_PER_MINUTE": "inf", "ENABLE_LOGROTATION": False, "USER": "",
    }  # fmt: skip
    (folder / "carbon.conf").write_text("[cache]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    (folder / "storage-schemas.conf").write_text("[all]\npattern = .*\nretentions = 1s:10m\n")
    command = ["carbon-cache", f"--config={folder / 'carbon.conf'}", "--nodaemon", "start"]
    server(lines, str(shutil.which(command[0])), *command[1:])
    _, z = running(GraphiteBackend, broker, closing, zibrato, host="127.0.0.1", port=lines, prefix="z.")
    measure(z)
    assert eventually(lambda: fetched(folder, "z/shop/clicks/sum")) == 42
    assert eventually(lambda: fetched(folder, "z/shop/clicks/count")) == 3
    assert eventually(lambda: fetched(folder, "z/queue/last")) == -7.5
    assert eventually(lambda: fetched(folder, "z/page/count")) == 100
    assert eventually(lambda: fetched(folder, "z/page/p95")) == pytest.approx(0.95, rel=0.02)
    assert eventually(lambda: fetched(folder, "z/users/distinct")) == 2
    assert eventually(lambda: fetched(folder, "z/alike/count")) == MANY
    long_names = eventually(lambda: list((folder / "whisper" / "z").glob("_xE6_x97_xA5*/distinct.wsp")))
    assert len(long_names) == 1
    for power in POWERS:
        assert eventually(lambda: fetched(folder, f"z/power/_x00/{power}/last")) == 10.0**power  # noqa: B023
        assert eventually(lambda: fetched(folder, f"z/power/{power}/_x00/sum")) == 10.0**power  # noqa: B023
    assert all(part for path in (folder / "whisper").rglob("*.wsp") for part in path.stem.split("."))


def fetched(folder: Path, name: str) -> float | None:
    """Return the only value in a file of carbon's; None if it has none."""
    path = folder / "whisper" / f"{name}.wsp"
    if not path.exists():
        return None
    answer = subprocess.run(
        ["whisper-fetch", "--json", f"--from={int(time.time()) - 300}", str(path)], capture_output=True, check=False
    )
    if answer.returncode:
        return None  # being made
    found = [value for value in json.loads(answer.stdout)["values"] if value is not None]
    return sum(found) if found and name.endswith(("sum", "count")) else found[-1] if found else None


def start_statsd(
    server: Callable[..., subprocess.Popen[bytes]], folder: Path, protocol: str, **settings: Any
) -> tuple[int, int]:
    """Start statsd and return the ports for metrics and for management."""
    taking, managing = reserved_ports(2)
    settings = {
        "servers": [{"server": f"./servers/{protocol}", "address": "127.0.0.1", "port": taking}],
        "mgmt_address": "127.0.0.1", "mgmt_port": managing, "title": False, "backends": [], **settings,
    }  # fmt: skip
    (folder / "statsd.js").write_text(json.dumps(settings))
    search = f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}"
    node = shutil.which("node", path=search)
    assert node, "no node: `make setup` installs one when the machine has none"
    server(managing, node, str(STATSD), str(folder / "statsd.js"))
    return taking, managing


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_statsd_counts_what_was_measured(
    protocol: str,
    tmp_path: Path,
    server: Callable[..., subprocess.Popen[bytes]],
    broker: RunningBroker,
    zibrato: Make,
    closing: Closing,
) -> None:
    taking, managing = start_statsd(server, tmp_path, protocol, flushInterval=3_600_000)
    own = {"host": "127.0.0.1", "port": taking, "protocol": protocol, "prefix": "z."}
    _, z = running(StatsdBackend, broker, closing, zibrato, **own)
    measure(z)
    eventually(lambda: pending(managing, "counters").get("z.shop.clicks") == 42)
    eventually(lambda: pending(managing, "gauges").get("z.queue") == -7.5)
    # Values within 1 % of each other arrived as one value with a sampling rate: fewer values, the same range.
    timed = eventually(lambda: pending(managing, "timers").get("z.page"))
    assert 50 < len(timed) <= 100
    assert (min(timed), max(timed)) == pytest.approx((10, 1000), rel=0.01)
    eventually(lambda: "z.alike" in pending(managing, "timers"))
    eventually(lambda: pending(managing, "gauges").get("z.zero") == 0)
    gauges, counters = pending(managing, "gauges"), pending(managing, "counters")
    assert {power: gauges[f"z.power._x00.{power}"] for power in POWERS} == {power: 10.0**power for power in POWERS}
    assert {power: counters[f"z.power.{power}._x00"] for power in POWERS} == {power: 10.0**power for power in POWERS}
    assert counters["statsd.bad_lines_seen"] == 0


RECORD_COUNTS = """
const fs = require("fs");
exports.init = (startup, config, events) => {
  const total = {};
  events.on("flush", (time, metrics) => {
    for (const [name, count] of Object.entries(metrics.timer_counters)) total[name] = (total[name] || 0) + count;
    fs.writeFileSync(config.recordTo + ".new", JSON.stringify(total));
    fs.renameSync(config.recordTo + ".new", config.recordTo);
  });
  return true;
};
"""


def test_statsd_counts_many_timers_alike_that_came_as_one_value(
    tmp_path: Path,
    server: Callable[..., subprocess.Popen[bytes]],
    broker: RunningBroker,
    zibrato: Make,
    closing: Closing,
) -> None:
    counts = tmp_path / "counts.json"
    (tmp_path / "record.js").write_text(RECORD_COUNTS)
    taking, _ = start_statsd(
        server, tmp_path, "tcp", flushInterval=200, backends=[str(tmp_path / "record.js")], recordTo=str(counts)
    )
    own = {"host": "127.0.0.1", "port": taking, "protocol": "tcp", "prefix": "z."}
    _, z = running(StatsdBackend, broker, closing, zibrato, **own)
    measure_many(z)
    expected = pytest.approx(MANY)
    assert eventually(lambda: counts.exists() and json.loads(counts.read_text()).get("z.alike") == expected)


def pending(port: int, what: str) -> dict[str, Any]:
    """Return the values that statsd's management interface reports; see its docs/admin_interface.md."""
    with socket.create_connection(("127.0.0.1", port), 5) as line:
        line.sendall(what.encode() + b"\n")
        answer = b""
        while not answer.rstrip().endswith(b"END"):
            answer += line.recv(65536)
    text = answer.decode().rsplit("END", 1)[0]
    command = "process.stdout.write(JSON.stringify(eval('(' + require('fs').readFileSync(0) + ')')))"
    search = f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}"
    node = str(shutil.which("node", path=search))
    found = subprocess.run([node, "-e", command], input=text.encode(), capture_output=True, check=True)
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer

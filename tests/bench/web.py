"""Benchmark the web: queries, live viewers, posted events, a dashboard.

Each function in `BENCHMARKS` returns a row `{name, ours, peer, ratio, unit, must, ok}`. To run them alone:
`python -m tests.bench.web [NAME ...]`.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil

from tests.support.ports import reserved_ports
from tests.support.waiting import eventually
from tests.support.web.server import Server, write_aggregate
from zarkov_site.config.config import REPOSITORY
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod

Row = dict[str, Any]
ROUNDS = 7
POINTS = 1_000
ROUND_S = 2.0
VIEWERS = 500
UPDATES = 5
EVENTS = 500
REQUESTS = 30
FIRST_DAY = date(2011, 1, 1)


@contextmanager
def server() -> Iterator[Server]:
    """Yield one gunicorn worker and one ingester on a separate mongod."""
    with tempfile.TemporaryDirectory() as folder:
        mongod = LocalMongod(HomeFolder(Path(folder) / "mongod"))
        try:
            with Server(mongod.start(), Path(folder) / "home", WEB_CONCURRENCY="1") as running:
                running.mongo_uri = HomeFolder(Path(folder) / "mongod").mongo_uri()  # type: ignore[attr-defined]
                yield running
        finally:
            mongod.stop()


def query() -> Row:
    """Query 1,000 points by `/q`, compared with the smallest WSGI function that does the same find and JSON."""
    last = FIRST_DAY + timedelta(days=POINTS - 1)
    with server() as running:
        values = {f"date/{FIRST_DAY + timedelta(days=i)}": {"hits": i} for i in range(POINTS)}
        write_aggregate(running.database, "bench", values)
        question = json.dumps({"c": "bench", "b": f"date/{FIRST_DAY}", "e": f"date/{last}"})
        path = "/q?foo=" + quote(question)
        with _peer(running) as peer:
            ours_answer, peer_answer = (json.loads(_get(url, path)) for url in (running.url(), peer))
            assert [y for _, y in ours_answer["foo"]["hits"]] == [y for _, y in peer_answer["foo"]["hits"]]
            assert len(ours_answer["foo"]["hits"]) == POINTS
            rates = [(_rate(running.url(), path), _rate(peer, path)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
    return _row("web.q", ours, theirs, "requests/s", ">=0.5", ours / theirs >= 0.5)


@contextmanager
def _peer(running: Server) -> Iterator[str]:
    (port,) = reserved_ports()
    environ = os.environ | {
        "PEER_MONGO_URI": running.mongo_uri,  # type: ignore[attr-defined]
        "PEER_DATABASE": running.database_name,
    }
    command = ("-m", "gunicorn", "-k", "gevent", "-w", "1", "-b", f"127.0.0.1:{port}", "--no-control-socket")
    process = subprocess.Popen(
        [sys.executable, *command, "tests.bench.peers.web_q:application"],
        env=environ, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: _listens(port), what="the peer")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _get(url: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


def _rate(url: str, path: str) -> float:
    """Return the requests per second of one client on one persistent connection."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    count, started = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - started) < ROUND_S:
        connection.request("GET", path)
        assert connection.getresponse().read()
        count += 1
    connection.close()
    return count / elapsed_s


def live() -> Row:
    """Update one chart with 500 viewers once a second; measure the slowest viewer and the queries per update."""
    with server() as running:
        write_aggregate(running.database, "bench", {f"x/{FIRST_DAY + timedelta(days=i)}": i for i in range(365)})
        sockets = [_open_stream(running) for _ in range(VIEWERS)]
        try:
            _await_all(sockets, b'"series"', 30)
            worker = _worker(running)
            files = [file.path for file in worker.open_files() if "sqlite3" in file.path]
            running.database.command("profile", 2)
            delays = []
            for number in range(UPDATES):
                write_aggregate(running.database, "bench", {f"x/{FIRST_DAY}": 10_000 + number}, through=100 + number)
                started = time.perf_counter()
                running.announce("bench", 100 + number)
                _await_all(sockets, str(10_000 + number).encode(), 10)
                delays.append(time.perf_counter() - started)
                time.sleep(max(0.0, 1 - delays[-1]))
            running.database.command("profile", 0)
            condition = {"op": "query", "ns": f"{running.database_name}.zagg.bench"}
            queries = running.database["system.profile"].count_documents(condition)
        finally:
            for stream in sockets:
                stream.close()
    slowest = max(delays)
    print(f"web.live: {queries} queries for {UPDATES} updates; {len(files)} open SQLite files", file=sys.stderr)
    ok = slowest <= 1 and queries <= UPDATES and len(files) < 10
    return _row("web.live", slowest * 1000, None, "ms to the last of 500 viewers", "<=1000", ok)


def _open_stream(running: Server) -> socket.socket:
    address = urlsplit(running.url())
    opened = socket.create_connection((address.hostname, address.port))
    opened.sendall(f"GET /api/v1/live/bench/ HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
    return opened


def _await_all(sockets: list[socket.socket], text: bytes, timeout_s: float) -> None:
    """Read until every stream has sent `text`."""
    poller = select.poll()
    left = {stream.fileno(): stream for stream in sockets}
    seen = dict.fromkeys(left, b"")
    for number in left:
        poller.register(number, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while left:
        assert time.monotonic() < deadline, f"{len(left)} viewers received nothing within {timeout_s} s"
        for number, _ in poller.poll(100):
            if number in left:
                seen[number] = seen[number][-100:] + left[number].recv(1 << 16)
                if text in seen[number]:
                    poller.unregister(number)
                    del left[number]


def _worker(running: Server) -> psutil.Process:
    (worker,) = psutil.Process(running.processes["web"].pid).children()
    return worker


def post() -> Row:
    """Post 500 events at a time from four clients, until they are on the ingester's disk."""
    with server() as running:
        body = [
            json.dumps(
                [
                    {"type": "bench", "context": {"user": f"u{i}", "page": "/a/b"}, "id": f"{r}-{i}"}
                    for i in range(EVENTS)
                ]
            ).encode()
            for r in range(ROUNDS * REQUESTS)
        ]
        rates = []
        for number in range(ROUNDS):
            part = body[number * REQUESTS : (number + 1) * REQUESTS]
            started = time.perf_counter()
            threads = [threading.Thread(target=_post_all, args=(running, part[i::4])) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rates.append(REQUESTS * EVENTS / (time.perf_counter() - started))
        expected = ROUNDS * REQUESTS * EVENTS
        stored = running.database["event.1"]
        eventually(lambda: stored.count_documents({"type": "bench"}) == expected, what="all events in MongoDB")
    ours = statistics.median(rates)
    return _row("web.post", ours, None, "events/s", ">=15000", ours >= 15_000)


def _post_all(running: Server, bodies: list[bytes]) -> None:
    connection = http.client.HTTPConnection(urlsplit(running.url()).netloc, timeout=30)
    headers = {"Authorization": f"Token {running.token}", "Content-Type": "application/json"}
    for body in bodies:
        connection.request("POST", "/api/v1/events/", body, headers)
        answer = json.loads(connection.getresponse().read())
        assert answer["accepted"] == EVENTS, answer
    connection.close()


def dashboard() -> Row:
    """Open a dashboard with six charts, until all are drawn."""
    from playwright.sync_api import sync_playwright

    from tests.support.chromium import ARGUMENTS, executable

    with server() as running, sync_playwright() as playwright:
        months = [f"{year}-{month:02d}" for year in range(2010, 2025) for month in range(1, 13)]
        for number in range(6):
            values = {f"{name}/{month}": i % 40 for name in "abc" for i, month in enumerate(months)}
            write_aggregate(running.database, f"bench{number}", values)
        running.django("""
            from aggregates.models import Chart, Dashboard, DashboardItem
            board = Dashboard.objects.create(slug="bench", title="Bench")
            for i in range(6):
                chart = Chart.objects.create(slug=f"c{i}", title=f"C{i}", aggregate=f"bench{i}", kind="area")
                DashboardItem.objects.create(dashboard=board, chart=chart, position=i)
        """)
        browser = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        _get(running.url(), "/dashboards/bench/")  # the server's first answer loads its templates
        durations_s = []
        for _ in range(ROUNDS):
            page = browser.new_context().new_page()
            started = time.perf_counter()
            page.goto(running.url("dashboards/bench/"), wait_until="commit")
            page.wait_for_function(
                "() => [...document.querySelectorAll('.chart')].filter(f => f.dataset.drawn).length === 6"
            )
            durations_s.append(time.perf_counter() - started)
            page.context.close()
        browser.close()
    ours = statistics.median(durations_s) * 1000
    return _row("web.dashboard", ours, None, "ms to six charts", "<=1000", ours <= 1000)


def _row(name: str, ours: float, peer: float | None, unit: str, must: str, ok: bool) -> Row:
    ratio = round(ours / peer, 3) if peer else None
    peers = round(peer, 1) if peer else None
    return {"name": name, "ours": round(ours, 1), "peer": peers, "ratio": ratio, "unit": unit, "must": must, "ok": ok}


BENCHMARKS: dict[str, Callable[[], Row]] = {
    "web.q": query,
    "web.live": live,
    "web.post": post,
    "web.dashboard": dashboard,
}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or BENCHMARKS:
        print(json.dumps(BENCHMARKS[wanted]()))

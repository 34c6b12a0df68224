"""The memory of a web process whose clients stop in the middle, on a real gunicorn."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import psutil
import pytest

from tests.support.waiting import eventually
from tests.support.web.server import Server

pytestmark = pytest.mark.early
MIB = 2**20
UPLOADS, READERS = 25, 12
BODY_BYTES = 8 * MIB
ROOM_BYTES = 70 * MIB  # what the requests may take in all; the bodies have 200 MiB, the answers 140
ANSWER_BYTES = 12 * MIB
COUNT = 500


@pytest.fixture(scope="module")
def server(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(mongo_uri, tmp_path_factory.mktemp("memory"), WEB_CONCURRENCY="1") as running:
        begin = datetime(2024, 1, 1, tzinfo=UTC)
        text = "x" * (ANSWER_BYTES // COUNT)  # large, and computed in no time
        running.database["zagg.many"].insert_many(
            {"_id": f"x/{begin + timedelta(minutes=i):%Y-%m-%dT%H:%M}", "value": text} for i in range(COUNT)
        )
        assert running.post_events({"type": "first"})["accepted"] == 1
        running.request(QUERY)  # what is loaded once is in memory now
        yield running


QUERY = f"q?a={quote(json.dumps({'c': 'many'}))}"


def worker_bytes(server: Server) -> int:
    (worker,) = psutil.Process(server.processes["web"].pid).children()
    return int(worker.memory_info().rss)


def opened(server: Server, held: ExitStack) -> socket.socket:
    url = urlsplit(server.url())
    connection = held.enter_context(socket.create_connection((url.hostname, url.port), timeout=90))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return connection


def test_uploads_that_stop_before_their_end_take_little_memory(server: Server) -> None:
    before = worker_bytes(server)
    head = f"POST /api/v1/events/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Token {server.token}\r\n"
    body = bytes(BODY_BYTES - 1)
    with ExitStack() as held:
        for _ in range(UPLOADS):
            connection = opened(server, held)
            connection.sendall(f"{head}Content-Length: {BODY_BYTES}\r\n\r\n".encode() + body)
        assert server.post_events({"type": "good"})["accepted"] == 1
        assert worker_bytes(server) - before < ROOM_BYTES


def test_large_answers_that_nobody_reads_take_little_memory(server: Server) -> None:
    before = worker_bytes(server)
    with ExitStack() as held:
        connections = [opened(server, held) for _ in range(READERS)]
        for connection in connections:
            connection.sendall(f"GET /{QUERY} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for connection in connections:
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert server.post_events({"type": "good"})["accepted"] == 1
        eventually(lambda: worker_bytes(server) - before < ROOM_BYTES, 10, "little memory")


PADDING = " " * 2_400_000  # makes nearly the largest form
NUMBERED = {"q-0.n": "a", "q-0.c": "many"}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("q", {"a": json.dumps({"c": "many"}) + PADDING}),
        ("qs", NUMBERED | {"q-0.b": PADDING}),
        ("qr", NUMBERED | {"q-0.sort": "_id", "q-0.f": "{}" + PADDING}),
    ],
)
def test_a_query_in_a_large_body_does_not_wait_for_itself(server: Server, path: str, fields: dict[str, str]) -> None:
    part = '--B\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    body = "".join(part.format(*item) for item in fields.items()).encode() + b"--B--\r\n"
    status, _, answer = server.request(path, body, Content_Type="multipart/form-data; boundary=B")
    assert (status, list(json.loads(answer))) == (200, ["a"])

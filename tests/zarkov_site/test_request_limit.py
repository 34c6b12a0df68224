"""Bodies that are made to hold up the web process, on a real gunicorn."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import urlsplit

import gevent
import pytest

from aggregates.web.body_limit import MAX_BODY_BYTES
from aggregates.web.exceptions import BadRequestError
from tests.support.durations import assert_within
from tests.support.web.exchange import chunks, exchange
from tests.support.web.health import most_work_s, slowest_probe_s
from tests.support.web.server import Server
from zarkov_site.request_limit import FREE_CHUNKS, MIN_MEAN_BYTES, taking_turns

pytestmark = pytest.mark.early
WITHIN_S = 1.0  # 0.2 on an idle machine; without turns it is several seconds
UPLOADS = 25
BESIDE_UPLOADS_S = 0.25  # of work; 0.1 to 0.2 with turns of 2 ms, 0.3 to 0.9 with turns of 20 ms
ONE = b"1\r\nx\r\n"


@pytest.fixture(scope="module")
def server(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(mongo_uri, tmp_path_factory.mktemp("guarded")) as running:
        yield running


def head(server: Server, path: str, *headers: str, host: str = "") -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host or urlsplit(server.url()).netloc}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@pytest.mark.parametrize("host", ["", "evil.example"])
@pytest.mark.parametrize("path", ["/nothing", "/api/v1/events/", "/q"])
def test_others_are_answered_while_a_body_of_tiny_chunks_arrives(server: Server, path: str, host: str) -> None:
    request = head(server, path, "Transfer-Encoding: chunked", host=host) + ONE * 2_000_000 + b"0\r\n\r\n"
    seen = []
    assert_within(WITHIN_S, lambda: slowest_probe_s(server, lambda: seen.append(exchange(server, request))), tries=1)
    assert seen[0].status == 400
    assert (b"allowed_hosts" if host else b"chunks in its first") in seen[0].body


@pytest.mark.parametrize("size", [MIN_MEAN_BYTES, MIN_MEAN_BYTES + 1, 1000])
def test_others_are_answered_while_a_body_of_small_chunks_arrives(server: Server, size: int) -> None:
    body = b"%x\r\n%s\r\n" % (size, b" " * size) * (MAX_BODY_BYTES // size // 2) + b"0\r\n\r\n"
    request = head(server, "/nothing", "Transfer-Encoding: chunked", "Connection: close") + body
    seen = []
    assert_within(WITHIN_S, lambda: slowest_probe_s(server, lambda: seen.append(exchange(server, request))), tries=1)
    assert seen[0].status == 404


@pytest.mark.parametrize("host", ["", "evil.example"])
def test_others_are_answered_while_a_long_body_arrives_that_nobody_reads(server: Server, host: str) -> None:
    def attack() -> None:
        url = urlsplit(server.url())
        with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
            connection.sendall(head(server, "/nothing", f"Content-Length: {10**12}", host=host))
            try:
                for _ in range(200):
                    connection.sendall(b"x" * 2**20)
            except OSError:
                pass
            else:
                pytest.fail("all of it was read")

    assert_within(WITHIN_S, lambda: slowest_probe_s(server, attack), tries=1)


def test_others_are_answered_while_a_form_of_many_parts_and_headers_is_read(server: Server) -> None:
    body = (b"--x\r\ncontent-disposition: a; filename=b\r\n" + b"a;\r\n" * 240 + b"\r\n\r\n") * 2_400 + b"--x--\r\n"
    csrf = f"Cookie: {server.cookie_name('csrf')}={'a' * 32}"  # of nobody who was here before
    form = "Content-Type: multipart/form-data; boundary=x"
    request = head(server, "/login/", csrf, form, f"Content-Length: {len(body)}", "Connection: close") + body
    seen = []
    assert_within(WITHIN_S, lambda: slowest_probe_s(server, lambda: seen.append(exchange(server, request))), tries=1)
    assert seen[0].status == 403


def test_a_small_body_may_have_a_chunk_for_each_byte(server: Server) -> None:
    text = b"n={}" + b" " * (FREE_CHUNKS - 4)
    form = "Content-Type: application/x-www-form-urlencoded"
    body = chunks(*(text[i : i + 1] for i in range(len(text))))
    answer = exchange(server, head(server, "/q", "Transfer-Encoding: chunked", form, "Connection: close") + body)
    assert answer.status == 400 and b"chunks" not in answer.body


def test_a_connection_is_kept_after_a_short_body_that_nobody_read(server: Server) -> None:
    one = head(server, "/nothing", "Content-Length: 60000") + b"x" * 60_000
    two = head(server, "/nothing", "Content-Length: 3", "Connection: close") + b"xxx"
    assert exchange(server, one + two).received.count(b"HTTP/1.1 404") == 2


def test_a_client_reads_its_answer_although_it_sends_a_long_body_first(server: Server) -> None:
    request = head(server, "/nothing", "Content-Length: 40000000", host="evil.example") + b"x" * 40_000_000
    answer = exchange(server, request)
    assert answer.status == 400 and b"allowed_hosts" in answer.body


def test_other_greenlets_run_between_the_chunks_of_a_body() -> None:
    turns = []

    def other() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    beside = gevent.spawn(other)
    pieces = (b"x" * MIN_MEAN_BYTES for _ in range(200_000))
    size = sum(map(len, taking_turns(pieces, SimpleNamespace())))
    beside.kill()
    assert size == 200_000 * MIN_MEAN_BYTES
    assert len(turns) > 3


def test_too_many_chunks_are_refused_and_the_connection_is_closed() -> None:
    closed = []
    request = SimpleNamespace(force_close=lambda: closed.append(True))
    with pytest.raises(BadRequestError, match=r"65\d{3} chunks in its first"):
        list(taking_turns((b"" for _ in range(FREE_CHUNKS + 1)), request))
    assert closed == [True]


def test_others_are_answered_beside_many_large_uploads(server: Server) -> None:
    body = b"[" + b" " * (MAX_BODY_BYTES - 16) + b'{"type":"x"}]'

    def attack() -> None:
        assert server.request("api/v1/events/", body, token=server.token)[0] == 200

    assert_within(BESIDE_UPLOADS_S, lambda: most_work_s(server, *[attack] * UPLOADS), tries=1)

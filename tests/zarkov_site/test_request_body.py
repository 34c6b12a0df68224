"""Bodies of requests on a real gunicorn, byte by byte over a socket: chunked, cut off, and of two lengths at once."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from aggregates.web.body_limit import MAX_BODY_BYTES
from tests.support.waiting import eventually
from tests.support.web.exchange import Answer, chunks, exchange
from tests.support.web.server import PASSWORD, Server
from zarkov_site.promised_input import MEMORY_BYTES

pytestmark = pytest.mark.early
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def server(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(mongo_uri, tmp_path_factory.mktemp("bodies")) as running:
        yield running


@pytest.fixture
def kind() -> str:
    """Return a type of event that no other test sends."""
    return f"kind-{uuid.uuid4().hex[:8]}"


def send(server: Server, body: Iterable[bytes], *headers: str, path: str = "/api/v1/events/", version: str = "1.1",
         method: str = "POST") -> Answer:  # fmt: skip
    """Send one request, end our side of the connection, and return the answer."""
    url = urlsplit(server.url())
    lines = [f"{method} {path} HTTP/{version}", f"Host: {url.netloc}", f"Authorization: Token {server.token}",
             "Content-Type: application/json", "Connection: close", *headers]  # fmt: skip
    with socket.create_connection((url.hostname, url.port), timeout=90) as connection:
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        with contextlib.suppress(OSError):  # an answer can come before the end
            for part in body:
                connection.sendall(head + part)
                head = b""
            connection.shutdown(socket.SHUT_WR)
        return Answer(connection.makefile("rb").read())


def stored(server: Server, kind: str) -> int:
    """Return how many events of this type were stored, once a later one was."""
    last = f"{kind}-last"
    assert server.post_events({"type": last})["accepted"] == 1
    collection = server.database["event.1"]
    eventually(lambda: collection.count_documents({"type": last}), what="the last event")
    return collection.count_documents({"type": kind})


def lines(kind: str, count: int, size: int = 0) -> bytes:
    return b"".join(json.dumps({"type": kind, "extra": "x" * size}).encode() + b"\n" for _ in range(count))


@pytest.mark.parametrize(
    "body",
    [
        lambda text: [chunks(text)],
        lambda text: [chunks(*(text[i : i + 1] for i in range(len(text))))],
        lambda text: [chunks(text[:7], text[7:], extension=';name="a;b"; flag')],
        lambda text: [chunks(text, trailer="X-Sum: 1\r\nX-More: 2\r\n")],
        lambda text: (bytes([byte]) for byte in chunks(text)),
    ],
    ids=["one chunk", "a chunk per byte", "extensions", "trailers", "a segment per byte"],
)
def test_a_chunked_body_is_read_like_any_other(server: Server, kind: str, body: Any) -> None:
    answer = send(server, body(lines(kind, 3)), CHUNKED)
    assert (answer.status, answer.json) == (200, {"accepted": 3, "rejected": []})
    assert stored(server, kind) == 3


def test_a_large_chunked_body_is_read_whole(server: Server, kind: str) -> None:
    text = lines(kind, 30, size=40_000)
    assert len(text) > 2 * MEMORY_BYTES  # most of it is in a file
    answer = send(server, [chunks(*(text[i : i + 50_000] for i in range(0, len(text), 50_000)))], CHUNKED)
    assert (answer.status, answer.json["accepted"]) == (200, 30)


def test_an_empty_chunked_body_is_empty(server: Server) -> None:
    answer = send(server, [chunks()], CHUNKED)
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")


def test_a_chunked_body_above_16_mib_is_413(server: Server, kind: str) -> None:
    part = b" " * 2**20
    answer = send(server, [chunks(lines(kind, 1), *([part] * (MAX_BODY_BYTES // 2**20 + 1)))], CHUNKED)
    assert (answer.status, answer.json["error"]["code"]) == (413, "too_large")
    assert stored(server, kind) == 0


@pytest.mark.parametrize("path", ["/api/v1/events/", "/api/v1/aggdefs/"])
def test_a_body_of_known_length_above_16_mib_is_413_at_every_address(server: Server, path: str) -> None:
    body = b" " * (MAX_BODY_BYTES + 1)
    answer = send(server, [body], f"Content-Length: {len(body)}", path=path)
    assert (answer.status, answer.json["error"]["code"]) == (413, "too_large")


def test_a_form_that_is_too_large_for_memory_is_413_too(server: Server) -> None:
    part = b"n=" + b"x" * 2**20
    form = "Content-Type: application/x-www-form-urlencoded"
    url = urlsplit(server.url())
    head = f"POST /q HTTP/1.1\r\nHost: {url.netloc}\r\n{CHUNKED}\r\n{form}\r\nConnection: close\r\n\r\n"
    answer = exchange(server, head.encode() + chunks(part, part, part))
    assert (answer.status, answer.json["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 7, 12, 40])
def test_nothing_of_a_chunked_body_that_ends_early_is_accepted(server: Server, kind: str, cut: int) -> None:
    whole = chunks(lines(kind, 1), lines(kind, 1))
    answer = send(server, [whole[:-cut]], CHUNKED)
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")
    assert stored(server, kind) == 0


def test_nothing_of_a_body_shorter_than_its_content_length_is_accepted(server: Server, kind: str) -> None:
    text = lines(kind, 2)
    answer = send(server, [text], f"Content-Length: {len(text) + 1}")
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")
    assert f"ended after {len(text)} of {len(text) + 1} bytes" in answer.json["error"]["message"]
    assert stored(server, kind) == 0


@pytest.mark.parametrize("ending", ["closed", "reset"])
@pytest.mark.parametrize("form", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=a"])
@pytest.mark.parametrize("path", ["/q", "/qs", "/login/", "/admin/login/"])
def test_a_form_that_breaks_off_leaves_one_line_in_the_log(server: Server, path: str, form: str, ending: str) -> None:
    log = server.folder.log / "web.log"
    before = log.stat().st_size
    url = urlsplit(server.url())
    lines = [f"POST {path} HTTP/1.1", f"Host: {url.netloc}", f"Content-Type: {form}", "Content-Length: 500",
             f"Cookie: {server.cookie_name('csrf')}={'a' * 32}", "Connection: close"]  # fmt: skip
    with socket.create_connection((url.hostname, url.port), timeout=90) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\nn={")
        if ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.shutdown(socket.SHUT_WR)
            assert Answer(connection.makefile("rb").read()).status == 400

    def written() -> list[str]:
        return log.read_bytes()[before:].decode().splitlines()

    eventually(written, what="a line in the log")
    urllib.request.urlopen(server.url("healthz"), timeout=90).close()  # what follows the line would be there by now
    (line,) = written()
    got = 3 if ending == "closed" else 0  # a reset throws away what was not read yet
    assert f"body refused path={path} reason=the body ended after {got} of 500 bytes" in line


@pytest.mark.parametrize(
    "broken", [b"zz\r\nabc\r\n0\r\n\r\n", b"-3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcdef\r\n0\r\n\r\n", b"\r\n"]
)
def test_malformed_chunks_are_400(server: Server, broken: bytes) -> None:
    assert send(server, [broken], CHUNKED).status == 400


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        (["Content-Length: 5", CHUNKED], "1.1", 400),
        ([CHUNKED, "Content-Length: 5"], "1.1", 400),
        ([CHUNKED, CHUNKED], "1.1", 400),
        (["Transfer-Encoding: chunked, chunked"], "1.1", 400),
        (["Transfer-Encoding: chunked, gzip"], "1.1", 400),
        (["Transfer-Encoding: gzip"], "1.1", 400),
        (["Transfer-Encoding: gzip, chunked"], "1.1", 501),
        (["Transfer-Encoding: xchunked"], "1.1", 501),
        ([CHUNKED], "1.0", 400),
        (["Content-Length: 5", "Content-Length: 6"], "1.1", 400),
    ],
)
def test_a_body_of_two_lengths_or_of_an_unknown_coding_is_refused(
    server: Server, kind: str, headers: list[str], version: str, status: int
) -> None:
    answer = send(server, [chunks(lines(kind, 1))], *headers, version=version)
    assert answer.status == status
    assert stored(server, kind) == 0
    if "gzip, chunked" in headers[0]:  # valid HTTP, so it is Zarkov that refuses it
        assert answer.json["error"]["code"] == "unsupported_transfer_coding"
    else:
        assert b"Content-Type: text/html" in answer.received


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /healthz", 400),
        ("GET /healthz HTTP/1.1\r\nno colon", 400),
        ("GET /healthz HTTP/1.1\r\nTransfer-Encoding: identity", 400),
        (f"GET /{'x' * 5000} HTTP/1.1", 414),
        (f"GET /healthz HTTP/1.1\r\nX-Long: {'x' * 9000}", 431),
        ("GET /healthz HTTP/1.1\r\nExpect: something", 417),
    ],
)
def test_what_is_no_valid_http_gets_a_short_page_of_the_server(server: Server, line: str, status: int) -> None:
    answer = exchange(server, f"{line}\r\nHost: localhost\r\n\r\n".encode())
    assert answer.status == status
    assert b"Connection: close" in answer.received and b"Content-Type: text/html" in answer.received


def test_a_client_that_waits_for_100_continue_is_told_to_send(server: Server, kind: str) -> None:
    answer = send(server, [chunks(lines(kind, 1))], CHUNKED, "Expect: 100-continue")
    assert answer.received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (answer.status, answer.json["accepted"]) == (200, 1)


def test_http_1_0_needs_no_host_for_a_body_of_known_length(server: Server, kind: str) -> None:
    text = lines(kind, 1)
    assert send(server, [text], f"Content-Length: {len(text)}", version="1.0").json["accepted"] == 1


def test_two_chunked_requests_share_a_connection(server: Server, kind: str) -> None:
    url = urlsplit(server.url())
    head = (
        f"POST /api/v1/events/ HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Token {server.token}\r\n{CHUNKED}\r\n"
    )
    one = head.encode() + b"\r\n" + chunks(lines(kind, 1))
    received = exchange(server, one + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)).received
    assert received.count(b'"accepted":1') + received.count(b'"accepted": 1') == 2
    assert stored(server, kind) == 2


def test_curl_sends_standard_input_chunked(server: Server, kind: str) -> None:
    command = ["curl", "-s", "-T", "-", "-X", "POST", "-H", f"Authorization: Token {server.token}"]
    done = subprocess.run([*command, server.url("api/v1/events/")], input=lines(kind, 2), capture_output=True,
                          timeout=90, check=True)  # fmt: skip
    assert json.loads(done.stdout) == {"accepted": 2, "rejected": []}


def test_queries_logins_and_json_documents_may_be_chunked_too(server: Server) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    query = chunks(b'n={"c": "no', b'thing_yet"}')
    url = urlsplit(server.url())

    def post(path: str, body: bytes, *headers: str) -> Answer:
        plain = "\r\n".join([f"POST {path} HTTP/1.1", f"Host: {url.netloc}", CHUNKED, "Connection: close", *headers])
        return exchange(server, plain.encode() + b"\r\n\r\n" + body)

    assert post("/q", query, form).json == {"n": {}}
    cookie = f"Cookie: {server.cookie_name('csrf')}={'a' * 32}"
    login = f"username=admin&password={PASSWORD.replace(' ', '+')}&csrfmiddlewaretoken={'a' * 32}".encode()
    answer = post("/login/", chunks(login[:20], login[20:]), form, cookie)
    assert answer.status == 302 and f"Set-Cookie: {server.cookie_name('session')}=".encode() in answer.received
    made = json.dumps({"name": f"chunked_{uuid.uuid4().hex[:8]}", "task_name": "aggregates.agg_tasks.CommitsByDay",
                       "enabled": False}).encode()  # fmt: skip
    assert send(server, [chunks(made[:9], made[9:])], CHUNKED, path="/api/v1/aggdefs/").status == 201


def asked(server: Server, path: str, content_type: str, body: bytes | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Token {server.token}", "Content-Type": content_type}
    request = urllib.request.Request(server.url(path), body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


# What each charset makes of the bytes: half of a surrogate pair, or an error.
CHARSETS = [("unicode_escape", "%5Cud800"), ("raw_unicode_escape", "%5Cud800"), ("utf-7", "%2B2AA-"), ("hex", "00"),
            ("undefined", "a"), ("rot13", "a"), ("idna", "a"), ("utf-16-le", "%00%D8"), ("utf-8", "%ED%A0%80"),
            ("latin-1", "%E9"), ("nonsense", "a"), ("utf8", "%C3%A9"), ('"UTF8"', "a"), ("us-ascii", "a"),
            ("cp65001", "a"), ("U8", "%F0%9F%98%80")]  # fmt: skip


@pytest.mark.parametrize(("charset", "text"), CHARSETS)
def test_an_address_is_utf_8_whatever_the_charset_of_the_body(server: Server, charset: str, text: str) -> None:
    for path in ("/api/v1/events/?type={}", "/api/v1/events/?context=a:{}", "/api/v1/quarantine/?code={}",
                 "/qs?q-0.n=x&q-0.c=visits&q-0.b={}"):  # fmt: skip
        assert asked(server, path.format(text), f"text/plain; charset={charset}")[0] == 200, path


@pytest.mark.parametrize(
    "parameter", ["charset*=bogus''utf-8", "x*=hex''%ff", "charset*=utf-16''%ff", "charset*='", "*=''", "a*=b; a*0=c"]
)
def test_a_parameter_that_cannot_be_read_is_left_out(server: Server, parameter: str) -> None:
    for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data"):
        status, _ = asked(server, "/q", f"{kind}; {parameter}", b"")
        assert status == (400 if kind == "multipart/form-data" else 200), (kind, parameter)


@pytest.mark.parametrize("boundary", ["B", '"a b(c)"', "'()+_,-./:=?"])
def test_a_boundary_is_kept_beside_a_charset(server: Server, boundary: str) -> None:
    mark = boundary.strip('"')
    body = f'--{mark}\r\nContent-Disposition: form-data; name="n"\r\n\r\n{{"c": "é"}}\r\n--{mark}--\r\n'.encode()
    status, answer = asked(server, "/q", f"multipart/form-data; charset=utf8; boundary={boundary}", body)
    assert (status, list(answer)) == (200, ["n"])


def test_a_form_with_a_file_is_refused_and_leaves_none(server: Server) -> None:
    for name, size in (("f", 10), ("f." + "x" * 300, 10), ("f." + "x" * 300, 2_400_000)):
        part = f'--B\r\nContent-Disposition: form-data; name="n"; filename="{name}"\r\n\r\n{"x" * size}\r\n--B--\r\n'
        status, answer = asked(server, "/q", "multipart/form-data; boundary=B", part.encode())
        assert (status, answer["error"]["message"]) == (400, "'n' is a file: no form here has one")
    assert list(Path(tempfile.gettempdir()).glob("*.upload*")) == []


@pytest.mark.parametrize("header", ["a: b; c*=d; c*0=e", "Content-Disposition: form-data; name*0=n; name*=m"])
def test_a_form_that_has_a_part_with_a_header_that_cannot_be_read_is_400(server: Server, header: str) -> None:
    body = f"--B\r\n{header}\r\n\r\n{{}}\r\n--B--\r\n".encode()
    status, answer = asked(server, "/q", "multipart/form-data; boundary=B", body)
    assert (status, "a header that cannot be read" in answer["error"]["message"]) == (400, True)


def test_what_django_refuses_leaves_one_line_in_the_log(server: Server) -> None:
    log = server.folder.log / "web.log"
    before = log.stat().st_size
    part = b'--B\r\nContent-Disposition: form-data; name="n"\r\n\r\n{}\r\n'
    assert asked(server, "/q", "application/x-www-form-urlencoded", b"n={}&" * 1_100)[0] == 400
    assert asked(server, "/q", "multipart/form-data; boundary=B", part * 1_100 + b"--B--\r\n")[0] == 400
    assert asked(server, "/q", "multipart/form-data; boundary=B", part * 100_000 + b"--B--\r\n")[0] == 413
    assert asked(server, "/admin/auth/user/?id__regex=x", "text/plain")[0] == 400

    def written() -> list[str]:
        return log.read_bytes()[before:].decode().splitlines()

    eventually(lambda: len(written()) >= 4, what="four lines in the log")
    urllib.request.urlopen(server.url("healthz"), timeout=90).close()  # what follows the lines would be there by now
    assert len(written()) == 4, written()


def test_a_form_whose_parts_cannot_be_told_apart_says_so(server: Server) -> None:
    status, answer = asked(server, "/q", "multipart/form-data; boundary=", b"x")
    assert (status, "boundary" in answer["error"]["message"]) == (400, True)


@pytest.mark.parametrize(("charset", "text"), CHARSETS)
def test_a_form_is_utf_8_or_refused_by_name(server: Server, charset: str, text: str) -> None:
    value = urllib.parse.unquote_to_bytes(text)
    part = b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    names = {b"q-0.n": b"x", b"q-0.c": b"visits", b"q-0.b": value}
    multipart = b"".join(part % item for item in names.items()) + b"--B--\r\n"
    form = f"q-0.n=x&q-0.c=visits&q-0.b={text}".encode()
    for kind, body in (("multipart/form-data; boundary=B", multipart), ("application/x-www-form-urlencoded", form)):
        status, answer = asked(server, "/qs", f"{kind}; charset={charset}", body)
        if charset in ("utf-8", "nonsense", "utf8", '"UTF8"', "us-ascii", "cp65001", "U8"):
            assert status == 200, answer
        else:
            assert (status, answer["error"]["details"]) == (400, {"parameter": "charset"})


def test_events_are_read_whatever_charset_is_said(server: Server, kind: str) -> None:
    body = json.dumps({"type": kind}).encode()
    for charset in ("utf-8", "latin-1", "utf-16", "hex", "nonsense"):
        status, receipt = asked(server, "/api/v1/events/", f"application/json; charset={charset}", body)
        assert (status, receipt["accepted"]) == (200, 1)
    assert asked(server, "/api/v1/events/", "text/plain; charset=utf-16", body.decode().encode("utf-16"))[0] == 200

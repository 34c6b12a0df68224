"""Attacks on the web server. A step fails if an answer says that the server itself failed (status 500)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, urlencode, urlsplit

from tests.abuse.targets import Targets

WITHIN_S = 60.0
ODD_VALUES = (
    "", " ", "\0", "a\0b", "\ud800", "%", "%00", "null", "true", "-1", "1e400", "NaN", "Infinity", "9" * 5_000, "[]",
    "{}", '{"a"', '"\\ud800"', "[" * 10_000, '{"a":' * 10_000, "../../etc/passwd", "'", '"', "<script>", "$where",
    "0000-01-01", "9999-12-31T23:59:59.999999999", "10000-01-01", "today", "-1000000y", "Europe/\0Berlin", "x" * 20_000,
)  # fmt: skip
PATHS = (
    "", "q", "qs", "qr", "collections", "healthz", "readyz", "metrics", "login/", "aggregates/", "aggregates/{odd}/",
    "charts/", "charts/{odd}/", "dashboards/{odd}/", "jobs/", "embed/{odd}/", "admin/",
    "admin/aggregates/aggdef/{odd}/",
    "api/v1/", "api/v1/events/", "api/v1/events/{odd}/", "api/v1/aggdefs/", "api/v1/aggdefs/{odd}/", "api/v1/runs/",
    "api/v1/tasks/", "api/v1/jobs/", "api/v1/jobs/{odd}/", "api/v1/quarantine/", "api/v1/quarantine/{odd}/",
    "api/v1/series/{odd}/", "api/v1/ranked/{odd}/", "api/v1/export/{odd}.csv", "api/v1/export/{odd}.jsonl", "{odd}",
)  # fmt: skip
NAMES = ("foo", "q-0.n", "q-0.c", "q-0.f", "q-0.sort", "q-0.limit", "from", "to", "tz", "fill", "fields", "prefix",
         "limit", "cursor", "filter", "code", "source", "format", "page", "p", "o", "e")  # fmt: skip
HEADERS = ("Accept", "Content-Type", "Content-Encoding", "Range", "If-None-Match", "Origin", "Referer", "Cookie",
           "Authorization", "X-Forwarded-For", "X-Forwarded-Proto", "Accept-Language", "Last-Event-ID")  # fmt: skip
METHODS = ("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")

Attack = Callable[[Targets], Iterator[None]]


def lines_without_events(targets: Targets) -> Iterator[None]:
    """Post bodies of millions of lines that are no events, and of more documents than one request may have."""
    bodies = [b"x\n" * 2**21, b"1\n" * 2**22, b"[" + b"1," * 2**22 + b"1]", b'{"type":"x"}\n' * 120_000]
    while True:
        _ask(targets, "POST", "api/v1/events/", random.choice(bodies), _sending(targets))
        yield


def large_queries(targets: Targets) -> Iterator[None]:
    """Ask for everything, sixteen times in one query, and for exports and series of everything."""
    everything = urlencode({f"n{n}": json.dumps({"c": "commits_by_day"}) for n in range(16)})
    paths = [
        f"q?{everything}", "api/v1/series/commits_by_day/?fill=zero", "api/v1/export/commits_by_day.csv",
        "api/v1/export/lines_by_day.jsonl", "api/v1/ranked/commits_by_day/?limit=100", "api/v1/schema/", "metrics",
        "api/v1/quarantine/?limit=500", "aggregates/commits_by_day/", "api/v1/events/?limit=500",
    ]  # fmt: skip
    while True:
        _ask(targets, "GET", random.choice(paths))
        yield


def odd_requests(targets: Targets) -> Iterator[None]:
    """Send odd values in paths, parameters, headers and bodies, by all methods."""
    while True:
        path = random.choice(PATHS).replace("{odd}", _quoted(random.choice(ODD_VALUES)[:2_000]))
        pairs = [(random.choice(NAMES), random.choice(ODD_VALUES)) for _ in range(random.randrange(4))]
        query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
        headers = {random.choice(HEADERS): random.choice(ODD_VALUES)[:4_000] for _ in range(2)}
        readable = {k: v for k, v in headers.items() if v.isprintable() and v.isascii()}
        body = random.choice([b"", os.urandom(1_000), random.choice(ODD_VALUES).encode("utf-8", "surrogatepass")])
        as_page = {"Accept": random.choice(["text/html", "application/json", "*/*", "text/csv"])}
        sending = _sending(targets) if random.random() < 0.3 else {}
        _ask(targets, random.choice(METHODS), f"{path}?{query}", body, {**as_page, **sending, **readable})
        yield


def wrong_passwords(targets: Targets) -> Iterator[None]:
    """Try passwords of the account `admin`, and tokens."""
    while True:
        form = urlencode({"username": "admin", "password": os.urandom(8).hex()}).encode()
        _ask(targets, "POST", "login/", form, {"Content-Type": "application/x-www-form-urlencoded"})
        _ask(targets, "GET", "api/v1/aggdefs/", b"", {"Authorization": f"Token {os.urandom(32).hex()}"})
        yield


def slow_requests(targets: Targets) -> Iterator[None]:
    """Open connections that send a header or a body byte by byte, and streams that are never read."""
    url = urlsplit(targets.web)
    starts = [
        b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"GET /api/v1/live/commits_by_day/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/events/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Token "
        + targets.ingest_token.encode() + b"\r\nContent-Length: 1000000\r\n\r\n",
    ]  # fmt: skip
    open_ones: list[socket.socket] = []
    try:
        while True:
            with contextlib.suppress(OSError):
                connection = socket.create_connection((url.hostname, url.port), timeout=WITHIN_S)
                connection.sendall(random.choice(starts))
                open_ones.append(connection)
            for connection in random.sample(open_ones, min(len(open_ones), 10)):
                try:
                    connection.sendall(b"x")
                except OSError:
                    connection.close()
                    open_ones.remove(connection)
            if len(open_ones) > 150:
                open_ones.pop(0).close()
            yield
    finally:
        for connection in open_ones:
            connection.close()


def _sending(targets: Targets) -> dict[str, str]:
    return {"Authorization": f"Token {targets.ingest_token}", "Content-Type": "application/x-ndjson"}


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _ask(targets: Targets, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
    """Send a request and read the answer, whatever it is. Raise `AssertionError` if its status is 500."""
    url = urlsplit(targets.web)
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=WITHIN_S)
    with contextlib.closing(connection):
        try:
            connection.request(method, f"{url.path}{path}", body or None, dict(headers or {}))
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            return  # refused while it was still being sent, or the connection was ended
        assert answer.status != 500, f"{method} {path[:500]!r} {headers!r:.500} {body[:200]!r}: {text[:2_000]!r}"


ATTACKS: dict[str, tuple[Attack, float]] = {  # with the seconds between two steps
    "lines_without_events": (lines_without_events, 1.0),
    "large_queries": (large_queries, 0.5),
    "odd_requests": (odd_requests, 0.05),
    "wrong_passwords": (wrong_passwords, 0.5),
    "slow_requests": (slow_requests, 0.1),
}

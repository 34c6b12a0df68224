"""Which values of `Host` are answered, and how the others are refused."""

from __future__ import annotations

import json
import logging
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client

from aggregates.web.auth.token_creation import make_token
from tests.support.web.server import Server

pytestmark = pytest.mark.django_db

FOREIGN = ["10.1.2.3:8181", "10.1.2.3", "evil.example", "evil.example:80", "[2001:db8::1]:8081", "!!!", "a b", "a:b:c",
           "[::", "x" * 300, "localhost.evil.example", "", "\xe4.example", "<b>"]  # fmt: skip
KNOWN = ["localhost", "127.0.0.1:8081", "[::1]:8081", "LOCALHOST:1", "testserver", "localhost."]


@pytest.mark.parametrize("host", FOREIGN + KNOWN)
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_answered_under_any_host(
    open_site: Any, client: Client, caplog: pytest.LogCaptureFixture, host: str, path: str
) -> None:
    assert client.get(path, HTTP_HOST=host).json()["status"] == "ok"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("host", KNOWN)
def test_hosts_of_the_settings_are_answered(open_site: Any, client: Client, host: str) -> None:
    assert client.get("/collections", HTTP_HOST=host).status_code == 200


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("[::1]", "[0:0:0:0:0:0:0:1]:8081"), ("[::1]", "[0::0001]"), ("[::1]", "[::1%lo]:8081"),
        ("[::1]", "[::1%25lo]"), ("[::1]", "[::1]:8081"),
        ("[::ffff:7f00:1]", "[::ffff:127.0.0.1]:8081"), ("[::ffff:a00:9]", "[::FFFF:10.0.0.9]"),
        ("127.0.0.1", "[::ffff:127.0.0.1]:8081"), ("[fe80::1]", "[fe80::1%eth0]:8081"), ("[fe80::ab]", "[FE80::AB]"),
    ],
)  # fmt: skip
def test_an_address_of_ipv6_is_known_in_every_form(
    open_site: Any, client: Client, settings: Any, allowed: str, host: str
) -> None:
    settings.ALLOWED_HOSTS = [allowed]
    assert client.get("/collections", HTTP_HOST=host).status_code == 200
    root = client.get("/api/v1/", HTTP_HOST=host).json()
    port = ":8081" if host.endswith(":8081") else ""
    assert root["collections"] == f"http://{allowed}{port}/api/v1/collections/"
    browser = Client(enforce_csrf_checks=True)
    token = browser.get("/login/", HTTP_HOST=host).context["csrf_token"]
    form = {"username": "nobody", "password": "wrong", "csrfmiddlewaretoken": str(token)}
    for origin, status in ((f"http://{host}", 200), ("http://[::2]:8081", 403)):
        assert browser.post("/login/", form, HTTP_HOST=host, HTTP_ORIGIN=origin).status_code == status
    for other in ("[::2]", "[::ffff:10.0.0.1]", "[::1%]", "[::1%lo/x]", "[::1]x", "[::g]", "[1.2.3.4]"):
        assert client.get("/collections", HTTP_HOST=other).status_code == 400, other


@pytest.mark.parametrize("host", FOREIGN)
def test_everything_else_is_refused_in_one_line_that_names_the_setting(
    open_site: Any, client: Client, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    shown = host[:100].encode("unicode_escape").decode()
    for path in (
        "/collections",
        "/q",
        "/api/v1/series/a/",
        "/",
        "/login/",
        "/admin/",
        "/metrics",
        "/nowhere",
        "/healthz/",
    ):
        caplog.clear()
        answer = client.get(path, HTTP_HOST=host)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request"), path
        message = answer.json()["error"]["message"]
        assert f"not known as {shown}:" in message and "allowed_hosts" in message
        warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [(record.name, record.exc_info) for record in warned] == [("aggregates.web.middleware", None)], path
        assert "\n" not in warned[0].getMessage()


def test_a_browser_gets_the_refusal_as_a_page(open_site: Any, client: Client) -> None:
    answer = client.get("/", HTTP_HOST="<b>evil</b>.example", HTTP_ACCEPT="text/html")
    text = answer.content.decode()
    assert answer.status_code == 400 and answer["Content-Type"].startswith("text/html")
    assert "&lt;b&gt;evil&lt;/b&gt;.example" in text and "allowed_hosts" in text
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]


def test_metrics_are_answered_under_any_host_to_who_has_a_token(open_site: Any, client: Client) -> None:
    _, token = make_token("prometheus", ["read"])
    foreign = {"HTTP_HOST": "10.1.2.3:8181"}
    assert client.get("/metrics", **foreign, HTTP_AUTHORIZATION=f"Token {token}").status_code == 200
    # A page that was made to point here may send any header, but does not know a token: `anonymous_read` is no help.
    assert client.get("/metrics", **foreign, HTTP_AUTHORIZATION="Token nonsense").status_code == 401
    for header in ("Basic YTpi", "Token", "Bearer x"):
        assert client.get("/metrics", **foreign, HTTP_AUTHORIZATION=header).status_code == 400
    assert client.get("/metrics", **foreign).status_code == 400
    assert client.get("/collections", **foreign, HTTP_AUTHORIZATION=f"Token {token}").status_code == 400
    assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/collections", 400)])
def test_a_probe_of_http_1_0_sends_no_host(server: Server, path: str, status: int) -> None:
    url = urlsplit(server.url())
    with socket.create_connection((url.hostname, url.port), timeout=90) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 10.1.2.3:{url.port}\r\n\r\n".encode())
        assert connection.makefile("rb").read().split()[1] == str(status).encode()
    with socket.create_connection((url.hostname, url.port), timeout=90) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert answer.split()[1] == b"200"  # it came to loopback, and names no other host
    assert json.loads(answer.partition(b"\r\n\r\n")[2])

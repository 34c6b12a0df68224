"""What is believed of X-Forwarded-... headers, and from whom."""

from __future__ import annotations

from typing import Any

import pytest

from zarkov_site.config.public_address import PublicAddress
from zarkov_site.proxy_headers import ProxyHeaders, read_address

PROXIES = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "fd00::/8")
PUBLIC = "https://stats.example.org/zarkov"


def seen(peer: str = "127.0.0.1", path: str = "/", public: str | None = PUBLIC, **headers: str) -> dict[str, Any]:
    """Return the environment that the site sees; `headers` are named like For, Proto, Host."""
    environ: dict[str, Any] = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http", "PATH_INFO": path, "SCRIPT_NAME": "",
                               "HTTP_HOST": "127.0.0.1:8081"}  # fmt: skip
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    ProxyHeaders(lambda _environ, _start: [], PROXIES, PublicAddress(public) if public else None)(environ, None)
    return environ


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1", "10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("127.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("127.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("fd00::5", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9, unknown", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9, <script>, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", ", ,", "127.0.0.1"),
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("", "203.0.113.9", ""),
    ],
)
def test_the_client_is_the_right_most_address_that_is_not_a_proxy(peer: str, forwarded_for: str, client: str) -> None:
    assert seen(peer, x_forwarded_for=forwarded_for)["REMOTE_ADDR"] == client


def test_the_scheme_counts_without_an_address_beside_it() -> None:
    assert seen(x_forwarded_proto="https")["wsgi.url_scheme"] == "https"
    assert seen("192.0.2.1", x_forwarded_proto="https")["wsgi.url_scheme"] == "http"
    assert seen(x_forwarded_proto="gopher")["wsgi.url_scheme"] == "http"


def test_the_scheme_is_that_of_the_public_url_if_the_proxy_passes_its_host_only() -> None:
    assert seen(host="stats.example.org")["wsgi.url_scheme"] == "https"
    assert seen(host="Stats.Example.org:443")["wsgi.url_scheme"] == "https"
    assert seen(host="stats.example.org", x_forwarded_proto="http")["wsgi.url_scheme"] == "http"
    assert seen("192.0.2.1", host="stats.example.org")["wsgi.url_scheme"] == "http"
    assert seen()["wsgi.url_scheme"] == "http"


def test_a_proxy_that_is_not_named_causes_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    site = ProxyHeaders(lambda _environ, _start: [], PROXIES, PublicAddress(PUBLIC))
    public, forwarded = {"HTTP_HOST": "stats.example.org"}, {"HTTP_X_FORWARDED_FOR": "203.0.113.9"}
    usual = {"REMOTE_ADDR": "192.0.2.1", "HTTP_HOST": "192.0.2.5:8081", "wsgi.url_scheme": "http"}
    for environ in (usual | public, usual | forwarded, usual | public | forwarded | {"REMOTE_ADDR": "127.0.0.1"}):
        site(environ, None)
    assert caplog.messages == []
    for _ in range(2):
        site(usual | public | forwarded, None)
    (message,) = caplog.messages
    assert "headers ignored peer=192.0.2.1" in message and "trusted_proxies" in message


def test_of_several_proxies_the_one_next_to_the_client_says_scheme_and_host() -> None:
    chain = {"x_forwarded_for": "203.0.113.9, 10.1.2.3", "x_forwarded_proto": "https, http"}
    assert seen(**chain, x_forwarded_host="a.example, b.example")["wsgi.url_scheme"] == "https"
    assert seen(**chain, x_forwarded_host="a.example, b.example")["HTTP_HOST"] == "a.example"
    spoofed = {"x_forwarded_for": "6.6.6.6, 203.0.113.9", "x_forwarded_proto": "https, http"}
    assert seen(**spoofed)["wsgi.url_scheme"] == "http"


def test_the_host_is_believed_from_proxies_only() -> None:
    assert seen(x_forwarded_host="stats.example.org")["HTTP_HOST"] == "stats.example.org"
    assert seen("192.0.2.1", x_forwarded_host="evil.example")["HTTP_HOST"] == "127.0.0.1:8081"


def test_nothing_that_anybody_sent_is_left_for_others_to_believe() -> None:
    sent = {f"x_forwarded_{word}": "1" for word in ("for", "proto", "host", "prefix", "port", "ssl")} | {
        "x_real_ip": "1"
    }
    for peer in ("127.0.0.1", "192.0.2.1"):
        assert not [name for name in seen(peer, **sent) if "FORWARDED" in name or "REAL" in name]


@pytest.mark.parametrize(
    ("path", "headers", "script", "rest"),
    [
        ("/zarkov/charts/", {}, "/zarkov", "/charts/"),
        ("/zarkov", {}, "/zarkov", ""),
        ("/zarkov/", {}, "/zarkov", "/"),
        ("/charts/", {"x_forwarded_for": "203.0.113.9"}, "/zarkov", "/charts/"),
        ("/charts/", {"host": "stats.example.org"}, "/zarkov", "/charts/"),
        ("/charts/", {}, "", "/charts/"),
        ("/zarkovian/", {}, "", "/zarkovian/"),
    ],
)
def test_the_prefix_is_taken_from_the_path_whether_or_not_the_proxy_did(
    path: str, headers: dict[str, str], script: str, rest: str
) -> None:
    got = seen(path=path, **headers)
    assert (got["SCRIPT_NAME"], got["PATH_INFO"]) == (script, rest)


def test_without_a_public_url_the_path_stays() -> None:
    got = seen(path="/zarkov/charts/", public=None, x_forwarded_for="203.0.113.9")
    assert (got["SCRIPT_NAME"], got["PATH_INFO"], got["REMOTE_ADDR"]) == ("", "/zarkov/charts/", "203.0.113.9")


@pytest.mark.parametrize("text", ["", "a", "1.2.3", "1.2.3.4.5", "[::1", "::1]:80", "1.2.3.4:x", "300.1.1.1"])
def test_what_is_not_an_address_is_none(text: str) -> None:
    assert read_address(text) is None

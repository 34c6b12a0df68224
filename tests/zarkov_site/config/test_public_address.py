"""The address of the web server: where it listens, under which names, and as what proxies and browsers know it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.urls import get_resolver

from ingest.loopback import is_loopback
from zarkov_site.config.config import Config
from zarkov_site.config.public_address import PublicAddress, cookie_name
from zarkov_site.config.server_address import OWN_PATHS
from zarkov_site.config.source import load
from zarkov_site.exceptions import ConfigError


def loaded(tmp_path: Path, **values: str) -> Config:
    return load({f"ZARKOV_{key.upper()}": value for key, value in values.items()}, [tmp_path])[0]


def refusal(tmp_path: Path, **values: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, **values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "url", "origin", "host", "prefix"),
    [
        ("https://a.example", "https://a.example", "https://a.example", "a.example", ""),
        ("HTTPS://A.Example:443/", "https://a.example", "https://a.example", "a.example", ""),
        ("http://a:80", "http://a", "http://a", "a", ""),
        ("https://a:8443/zarkov/", "https://a:8443/zarkov", "https://a:8443", "a", "/zarkov"),
        ("https://a/x/zar-kov_1.2~", "https://a/x/zar-kov_1.2~", "https://a", "a", "/x/zar-kov_1.2~"),
        ("http://10.1.2.3:8181", "http://10.1.2.3:8181", "http://10.1.2.3:8181", "10.1.2.3", ""),
        ("https://[FD00:0::1]:8443/z", "https://[fd00::1]:8443/z", "https://[fd00::1]:8443", "[fd00::1]", "/z"),
        ("https://[::ffff:10.0.0.9]", "https://[::ffff:a00:9]", "https://[::ffff:a00:9]", "[::ffff:a00:9]", ""),
        ("https://[::1]", "https://[::1]", "https://[::1]", "[::1]", ""),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example",
         "xn--mnchen-3ya.example", ""),
    ],
)  # fmt: skip
def test_a_public_url_is_read_in_its_normal_form(
    tmp_path: Path, given: str, url: str, origin: str, host: str, prefix: str
) -> None:
    config = loaded(tmp_path, public_url=given)
    assert config.public is not None
    assert (config.public_url, config.public.origin) == (url, origin)
    assert (config.public.host, config.public.prefix) == (host, prefix)
    assert host in config.hosts


@pytest.mark.parametrize(
    "given",
    [
        "stats.example.org", "ftp://a", "https://", "https:///zarkov", "https://user:secret@a", "https://a?x=1",
        "https://a#x", "https://a b", "https://a\\b", "https://a:0", "https://a:70000", "https://a:x", "https://a:",
        "https://-a.example", "https://a..example", "https://a_b", "https://*.example.org", "https://münchen.example",
        "https://[::1", "https://[zz::1]", "https://a/../b", "https://a/b//c", "https://a/b%20c", "https://a/b c",
        "//a/b", "https://a/.", "https://a/b;c", "https://127.1", "https://2130706433", "https://256.1.1.1",
        "https://0x7f.1", "https://a.1", "https://010.0.0.1",
    ],
)  # fmt: skip
def test_a_malformed_public_url_is_reported_with_what_is_allowed(tmp_path: Path, given: str) -> None:
    message = refusal(tmp_path, public_url=given)
    assert message.startswith(f"public_url: {given!r} is not allowed (environment variable ZARKOV_PUBLIC_URL)")
    assert "https://stats.example.org/zarkov" in message


@pytest.mark.parametrize("given", ["https://a/charts", "https://a/admin/zarkov", "https://a/q", "https://a/static"])
def test_a_path_that_zarkov_serves_itself_cannot_be_the_prefix(tmp_path: Path, given: str) -> None:
    assert "must not start with" in refusal(tmp_path, public_url=given)


def test_the_paths_that_zarkov_serves_itself_are_all_known() -> None:
    def first(pattern: Any) -> str:
        return str(pattern.pattern).strip("^$").partition("/")[0]

    tops = {first(pattern) for pattern in get_resolver().url_patterns if first(pattern)}
    nested = {first(p) for outer in get_resolver().url_patterns if not first(outer) for p in outer.url_patterns}
    assert {path for path in tops | nested if path} | {"static"} == OWN_PATHS


def test_proxies_are_believed_on_loopback_once_there_is_a_public_url_and_nowhere_else(tmp_path: Path) -> None:
    assert loaded(tmp_path).proxies == ()
    assert loaded(tmp_path, public_url="https://a").proxies == ("127.0.0.0/8", "::1/128")
    both = loaded(tmp_path, public_url="https://a", trusted_proxies="10.0.0.7, 10.1.0.0/16, fd00::/8")
    assert both.proxies == ("10.0.0.7/32", "10.1.0.0/16", "fd00::/8")
    assert loaded(tmp_path, trusted_proxies="::1").proxies == ("::1/128",)
    assert loaded(tmp_path, public_url="https://a", trusted_proxies="[]").proxies == ()
    (tmp_path / "zarkov.yaml").write_text("public_url: https://a\ntrusted_proxies: []\n")
    assert loaded(tmp_path).proxies == ()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("::ffff:10.0.0.9", "10.0.0.9/32"),
        ("::ffff:a00:9", "10.0.0.9/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("FD00:0::/16", "fd00::/16"),
        ("::/0", "::/0"),
    ],
)
def test_a_proxy_in_the_form_of_ipv6_is_the_one_of_ipv4(tmp_path: Path, given: str, read: str) -> None:
    assert loaded(tmp_path, trusted_proxies=given).proxies == (read,)


@pytest.mark.parametrize("given", ["proxy.example.org", "10.0.0.0/33", "10.0.0", "*", "10.0.0.7:80", "localhost"])
def test_a_malformed_proxy_is_reported_with_what_is_allowed(tmp_path: Path, given: str) -> None:
    message = refusal(tmp_path, trusted_proxies=given)
    assert f"{given!r} is not an address or a network" in message and "10.0.0.0/8" in message


def test_a_network_with_a_host_in_it_is_reported_as_such(tmp_path: Path) -> None:
    assert "has host bits set" in refusal(tmp_path, trusted_proxies="10.0.0.7/8")


@pytest.mark.parametrize("given", ["https://a", "a:8443", "a/b", "a b", "-a"])
def test_a_malformed_allowed_host_is_reported_with_what_is_allowed(tmp_path: Path, given: str) -> None:
    assert f"{given!r} is not a host" in refusal(tmp_path, allowed_hosts=given)


def test_allowed_hosts_are_those_of_loopback_of_the_interface_and_of_the_settings(tmp_path: Path) -> None:
    config = loaded(tmp_path, web_host="127.9.8.7", public_url="https://stats.example.org:8443/z",
                    allowed_hosts="::1, .example.net, 10.1.2.3, [fd00::0:1]")  # fmt: skip
    assert config.hosts == ["localhost", "127.0.0.1", "[::1]", "127.9.8.7", "stats.example.org", "[::1]",
                            ".example.net", "10.1.2.3", "[fd00::1]"]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "bound", "name"),
    [
        ("::1", "tcp://[::1]:8081", "[::1]"),
        ("[::1]", "tcp://[::1]:8081", "[::1]"),
        ("::", "tcp://[::]:8081", "[::]"),
        ("fe80::1%eth0", "tcp://[fe80::1%eth0]:8081", "[fe80::1]"),
        ("[fe80::1%eth0]", "tcp://[fe80::1%eth0]:8081", "[fe80::1]"),
        ("fd00:0:0::2", "tcp://[fd00::2]:8081", "[fd00::2]"),
        ("0:0:0:0:0:0:0:1", "tcp://[::1]:8081", "[::1]"),
        ("FD00::0:0A", "tcp://[fd00::a]:8081", "[fd00::a]"),
        ("fe80:0::fc:ff:fe00:1%eth0", "tcp://[fe80::fc:ff:fe00:1%eth0]:8081", "[fe80::fc:ff:fe00:1]"),
        ("::ffff:127.0.0.1", "tcp://[::ffff:7f00:1]:8081", "[::ffff:7f00:1]"),
        ("::ffff:10.1.2.3", "tcp://[::ffff:a01:203]:8081", "[::ffff:a01:203]"),
        ("::ffff:10.1.2.3", "tcp://[::ffff:a01:203]:8081", "10.1.2.3"),
        ("127.0.0.1", "tcp://127.0.0.1:8081", "127.0.0.1"),
        ("web.example.org", "tcp://web.example.org:8081", "web.example.org"),
    ],
)
def test_the_web_server_may_listen_on_ipv6(tmp_path: Path, host: str, bound: str, name: str) -> None:
    config = loaded(tmp_path, web_host=host, metrics__host=host)
    assert config.web_address == bound
    assert name in config.hosts
    assert config.metrics.address(1) == bound.replace("8081", "5551")


@pytest.mark.parametrize("host", ["", "[::1]:80", "::g", "127.0.0.1:80", "a/b", "[::1", "a b", "http://a"])
def test_an_interface_that_is_none_is_reported_with_what_is_allowed(tmp_path: Path, host: str) -> None:
    (tmp_path / "zarkov.yaml").write_text(f"web_host: {host!r}\n")
    with pytest.raises(ConfigError, match=r"web_host: .* is not allowed .*without a port, such as 127\.0\.0\.1"):
        loaded(tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"])
def test_loopback_is_not_exposed(tmp_path: Path, host: str) -> None:
    assert is_loopback(host)
    assert loaded(tmp_path, web_host=host, metrics__host=host).exposed() == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "fe80::1%eth0", "example.org", "128.0.0.1"])
def test_everything_else_is_exposed(tmp_path: Path, host: str) -> None:
    exposed = loaded(tmp_path, web_host=host, metrics__host=host).exposed()
    assert [sentence.partition(" ")[0] for sentence in exposed] == [
        "metrics.publishers",
        "metrics.backends",
        "web_host",
    ]


def test_every_interface_is_reached_on_loopback(tmp_path: Path) -> None:
    for host, address in (
        ("::", "tcp://[::1]:5550"),
        ("0.0.0.0", "tcp://127.0.0.1:5550"),
        ("*", "tcp://127.0.0.1:5550"),
    ):
        assert loaded(tmp_path, metrics__host=host).connect_address("metrics.publishers") == address


@pytest.mark.parametrize(
    ("public", "port", "name"),
    [
        (None, 8081, "zarkov_session"),
        (None, 0, "zarkov_session_969855c7"),
        (None, 8082, "zarkov_session_8082"),
        ("https://a", 8081, "zarkov_session"),
        ("https://a", 8082, "zarkov_session_at_8082"),
        ("https://a:8082", 8081, "zarkov_session_8082"),
        ("https://a/zarkov", 0, "zarkov_session_zarkov_969855c7"),
        ("https://a:8443", 8081, "zarkov_session_8443"),
        ("https://a/zarkov", 8081, "zarkov_session_zarkov"),
        ("https://a:8443/x/y", 8081, "zarkov_session_8443_x_y"),
        ("https://a:8443/x/y-z", 8081, "zarkov_session_8443_x_y_z_0f267cee"),
        ("https://a/8443", 8081, "zarkov_session_8443_82c0c432"),
    ],
)
def test_each_zarkov_on_one_host_has_cookies_of_its_own(public: str | None, port: int, name: str) -> None:
    assert cookie_name("session", PublicAddress(public) if public else None, port, Path("/srv/zarkov")) == name


def test_no_two_zarkovs_of_one_host_or_of_one_machine_share_a_cookie() -> None:
    def name(public: str | None, port: int, home: str = "/srv/a") -> str:
        return cookie_name("session", PublicAddress(public) if public else None, port, Path(home))

    paths = ["", "/x", "/y", "/x-y", "/x_y", "/x.y", "/x~y", "/x/y", "/X/Y", "/8082", "/at/8082", "/at"]
    of_one_host = [name(f"https://a{port}{path}", 8081) for port in ("", ":8082", ":8443") for path in paths]
    assert len(set(of_one_host)) == len(of_one_host)
    of_one_machine = [
        name("https://a", 8081), name("https://b", 8082), name(None, 8083), name("https://c/x", 8084),
        name(None, 0), name(None, 0, "/srv/b"), name("https://a", 0, "/srv/c"), name("https://d:1/x_y", 8085),
    ]  # fmt: skip
    assert len(set(of_one_machine)) == len(of_one_machine)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", each) for each in of_one_host + of_one_machine)


def test_plain_http_beyond_loopback_and_proxies_everywhere_cause_a_warning(tmp_path: Path) -> None:
    def warnings(**values: str) -> list[str]:
        return load({f"ZARKOV_{key.upper()}": value for key, value in values.items()}, [tmp_path])[1]

    assert warnings(public_url="https://a") == warnings(public_url="http://localhost:8081") == []
    assert warnings(public_url="http://[::1]:8081") == []
    assert ["public_url = http://a is not encrypted" in text for text in warnings(public_url="http://a")] == [True]
    assert ["trusted_proxies has ::/0" in text for text in warnings(trusted_proxies="::/0")] == [True]
    beyond = {"public_url": "https://a", "web_host": "192.0.2.5", "allow_insecure_bind": "true"}
    unnamed = [text for text in warnings(**beyond) if "trusted_proxies does not name the proxy" in text]
    assert len(unnamed) == 1 and "web_host = 192.0.2.5" in unnamed[0]
    for named in ("192.0.2.9", "[]"):
        assert [text for text in warnings(**beyond, trusted_proxies=named) if "does not name" in text] == []


def test_reading_without_a_login_at_a_public_address_causes_a_warning(tmp_path: Path) -> None:
    def warned(public_url: str, anonymous_read: str) -> list[bool]:
        given = {"ZARKOV_PUBLIC_URL": public_url, "ZARKOV_ANONYMOUS_READ": anonymous_read}
        return ["reads every aggregate" in text for text in load(given, [tmp_path])[1]]

    for beyond in ("https://a", "https://10.1.2.3", "https://[fd00::1]/zarkov"):
        assert warned(beyond, "true") == [True]
        assert warned(beyond, "false") == []
    for loopback in ("http://localhost:8081", "http://127.0.0.1", "http://[::1]:8081", ""):
        assert warned(loopback, "true") == []

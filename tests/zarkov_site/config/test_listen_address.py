"""Addresses at which sockets listen: what every interface is written as, and what is refused."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path

import pytest

from tests.support import command
from zarkov_site.config.config import Config
from zarkov_site.config.listen_address import reachable
from zarkov_site.config.source import SET_VARIABLE, load
from zarkov_site.exceptions import ConfigError

NUMBERS = ["0", "00", "0x0", "0X0", "127.1", "127.0.1", "2130706433", "0x7f000001", "1.2.3", "1.2.3.4.5", "127.0.0.01"]
NO_HOSTS = ["0.0.0.0:9704", "tcp://0.0.0.0", " ", "\t", "*:80", "[::1]:80", "[*]", "[0.0.0.0]", "a..b", "-", ".", "::%"]
SOCKETS = ["bson_bind_address", "json_bind_address", "ack_bind_address", "publish_bind_address"]
SOCKETS += ["zmr.req_bind", "zmr.worker_bind"]


def variable(key: str) -> str:
    return f"ZARKOV_{key.upper().replace('.', '__')}"


def given(tmp_path: Path, key: str, value: str) -> Config:
    return load({variable(key): value}, [tmp_path])[0]


@pytest.mark.parametrize("key", ["web_host", "metrics.host"])
@pytest.mark.parametrize("host", [*NUMBERS, *NO_HOSTS, "256.1.1.1", "0.0.0.0.", "127.0.0.1 "])
def test_a_host_that_is_not_understood_is_refused_with_its_value(tmp_path: Path, key: str, host: str) -> None:
    with pytest.raises(ConfigError, match=r"is not allowed .*such as 127\.0\.0\.1") as caught:
        given(tmp_path, key, host)
    assert f"{key}: {host!r} is not allowed (environment variable {variable(key)})" in str(caught.value)


@pytest.mark.parametrize("key", SOCKETS)
@pytest.mark.parametrize("host", [*NUMBERS, *NO_HOSTS, "", "[1.2.3.4]", "[:]", "::"])
def test_an_address_with_a_host_that_is_not_understood_is_refused(tmp_path: Path, key: str, host: str) -> None:
    with pytest.raises(ConfigError, match=f"{re.escape(key)}: .*is not allowed"):
        given(tmp_path, key, f"tcp://{host}:5777")


@pytest.mark.parametrize("host", [*NUMBERS, "", " ", "[*]", "a..b", "[1.2.3.4]", "[:]", "::"])
def test_an_interface_of_workers_that_is_not_understood_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"zmr\.worker_uri: .*is not allowed"):
        given(tmp_path, "zmr.worker_uri", f"tcp://{host}")


@pytest.mark.parametrize(
    "address",
    [
        *(f"tcp://127.0.0.1:{port}" for port in ("05777", "*", "65536", "1 ", "", "0x1", "-1")),
        *("TCP://127.0.0.1:1", "udp://127.0.0.1:1", "tcp://1.2.3.4;5.6.7.8:1", "inproc://a", "5777", "0.0.0.0"),
        *("ipc://", "ipc://*", "ipc:// "),
    ],
)
def test_what_is_no_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"bson_bind_address: .*use tcp://HOST:PORT"):
        given(tmp_path, "bson_bind_address", address)


def test_a_socket_without_a_file_is_refused_because_everybody_here_could_connect(tmp_path: Path) -> None:
    for key in SOCKETS:
        with pytest.raises(ConfigError, match=rf"{re.escape(key)}: .*an abstract socket has no file"):
            given(tmp_path, key, "ipc://@zarkov")


@pytest.mark.parametrize("key", SOCKETS)
@pytest.mark.parametrize("host", ["*", "0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "eth0", "eth0.100", "a-b.example.org"])
def test_a_socket_beyond_loopback_needs_keys_or_leave(tmp_path: Path, key: str, host: str) -> None:
    with pytest.raises(ConfigError, match=f"{re.escape(key)} = .* listens beyond loopback: make CURVE keys"):
        given(tmp_path, key, f"tcp://{host}:5777").refuse_exposure()


@pytest.mark.parametrize("key", SOCKETS)
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2", "127.255.255.254", "localhost", "[::1]", "[::ffff:127.0.0.2]"]
)
def test_every_address_of_loopback_needs_nothing(tmp_path: Path, key: str, host: str) -> None:
    assert given(tmp_path, key, f"tcp://{host}:5777").exposed() == []


@pytest.mark.parametrize("address", ["127.0.0.2:6545", "[::1]:6545", "localhost:6545"])
def test_the_prompt_may_listen_on_every_address_of_loopback(tmp_path: Path, address: str) -> None:
    assert given(tmp_path, "backdoor", address).backdoor == address


@pytest.mark.parametrize("address", ["0:1", "0.0.0.0:1", "[::]:1", "eth0:1", "127.1:1", "127.0.0.1:01", "::1:1"])
def test_the_prompt_may_listen_nowhere_else(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="backdoor: "):
        given(tmp_path, "backdoor", address)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        *[(every, "127.0.0.1") for every in ("*", "0.0.0.0", "::ffff:0.0.0.0", "::ffff:0:0")],
        *[(every, "::1") for every in ("::", "[::]", "0:0::0")],
        *[(one, one) for one in ("127.0.0.2", "::1", "10.1.2.3", "web.example.org", "::ffff:10.1.2.3")],
    ],
)
def test_a_server_on_every_interface_is_reached_on_loopback(host: str, address: str) -> None:
    assert reachable(host) == address


@pytest.mark.parametrize("host", ["0.0.0.0:9704", "tcp://0.0.0.0", "0", "*"])
def test_checkconfig_refuses_a_web_host_that_is_not_understood(tmp_path: Path, host: str) -> None:
    done = command.manage("checkconfig", f"--set=web_host={host}", environ={"ZARKOV_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert f"web_host: '{host}' is not allowed" in done.stderr


@pytest.mark.parametrize("key", ["web_host", "metrics.host", *SOCKETS])
def test_an_empty_value_means_the_default_in_every_source(tmp_path: Path, key: str) -> None:
    default = attrgetter(key)(load({}, [tmp_path])[0])
    assert attrgetter(key)(given(tmp_path, key, "")) == default
    assert attrgetter(key)(load({SET_VARIABLE: f"{key}="}, [tmp_path])[0]) == default

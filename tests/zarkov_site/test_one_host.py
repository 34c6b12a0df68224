"""Several applications on one host, whose cookies a browser sends to all of them."""

from __future__ import annotations

from pathlib import Path

from tests.support.ports import reserved_ports
from tests.support.web.server import PASSWORD, Server
from tests.support.web.visitor import Visitor


def test_applications_on_one_host_do_not_log_each_other_out(mongo_uri: str, tmp_path: Path) -> None:
    ports = reserved_ports(2)
    closed = {"ZARKOV_ANONYMOUS_READ": "false"}
    with (
        Server(mongo_uri, tmp_path / "a", ZARKOV_WEB_PORT=str(ports[0]), **closed) as first,
        Server(mongo_uri, tmp_path / "b", ZARKOV_WEB_PORT=str(ports[1]), **closed) as second,
    ):
        visitor = Visitor("http://127.0.0.1")
        for server in (first, second):
            assert visitor.post(server.url("login/"), username="admin", password=PASSWORD)[0] == 302
        names = {cookie.name for cookie in visitor.cookies}
        assert names == {f"zarkov_{word}_{port}" for word in ("session", "csrf") for port in ports}
        sent = "; ".join(f"{cookie.name}={cookie.value}" for cookie in visitor.cookies)
        of_others = "sessionid=of-another; csrftoken=of-another"
        for server in (first, second):
            assert "Log out admin" in visitor.get(server.url(""))[2]
            assert "Log out admin" in visitor.get(server.url(""), Cookie=f"{of_others}; {sent}; {of_others}")[2]


def test_applications_on_free_ports_and_behind_proxies_do_not_log_each_other_out_on_loopback(
    mongo_uri: str, tmp_path: Path
) -> None:
    (port,) = reserved_ports(1)
    closed = {"ZARKOV_ANONYMOUS_READ": "false"}
    public = {"ZARKOV_WEB_PORT": str(port), "ZARKOV_PUBLIC_URL": "https://a.example.org"}
    with (
        Server(mongo_uri, tmp_path / "a", **closed) as first,
        Server(mongo_uri, tmp_path / "b", **closed) as second,
        Server(mongo_uri, tmp_path / "c", **closed, **public) as third,
    ):
        visitor = Visitor("http://127.0.0.1")
        servers = (first, second, third)
        for server in servers:
            assert visitor.post(server.url("login/"), username="admin", password=PASSWORD)[0] == 302
        assert len({cookie.name for cookie in visitor.cookies}) == 6
        for server in servers:
            assert "Log out admin" in visitor.get(server.url(""))[2]
        first.stop("web")
        first.start_web()
        assert "Log out admin" in visitor.get(first.url(""))[2]

"""The documented nginx with TLS before a real server: on loopback, on another address, and below a path."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from aggregates.web.auth.login import MAX_WRONG_PASSWORDS
from tests.support import chromium
from tests.support.ports import reserved_ports
from tests.support.web.nginx import Nginx, other_address
from tests.support.web.server import PASSWORD, Server, Stream, write_aggregate
from tests.support.web.visitor import Visitor

pytestmark = [pytest.mark.early, pytest.mark.nginx]
MOST_TRIES = 3 * MAX_WRONG_PASSWORDS + 1  # within three clock minutes, one of which then has too many


@dataclass
class Proxied:
    """A server behind nginx."""

    server: Server
    nginx: Nginx
    prefix: str

    @property
    def url(self) -> str:
        """Return what browsers see, without a final slash."""
        return f"{self.nginx.origin}{self.prefix}"

    def path(self, path: str) -> str:
        return f"{self.prefix}{path}"


@pytest.fixture(scope="module", params=["loopback", "another address", "below a path", "below a path that is removed"])
def proxied(request: Any, mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxied")
    elsewhere = request.param == "another address"
    address = other_address() if elsewhere else "127.0.0.1"
    below = request.param.startswith("below")
    prefix = "/zarkov" if below else ""
    nginx = Nginx(folder / "nginx", address, reserved_ports()[0])
    settings = {"ZARKOV_TRUSTED_PROXIES": address} if not below else {}  # else all of loopback, by default
    settings |= {"ZARKOV_PUBLIC_URL": f"{nginx.origin}{prefix}", "ZARKOV_ANONYMOUS_READ": "false"}
    if elsewhere:
        settings |= {
            "ZARKOV_WEB_HOST": address,
            "ZARKOV_ALLOW_INSECURE_BIND": "true",
            "ZARKOV_TRUSTED_PROXIES": address,
        }
    changes = {"location / {": "location /zarkov/ {"} if below else {}
    if request.param.endswith("removed"):
        changes["proxy_pass http://127.0.0.1:8081;"] = "proxy_pass http://127.0.0.1:8081/;"
    if request.param == "loopback":  # a body is passed on as it comes
        changes["client_max_body_size 16m;"] = "client_max_body_size 16m;\n    proxy_request_buffering off;"
    with Server(mongo_uri, folder / "home", **settings) as server:
        months = {f"a/2024-{month:02d}": month for month in range(1, 13)}
        write_aggregate(server.database, "sales", months)
        server.django("""
            from aggregates.models import Chart
            Chart.objects.create(slug="sales", title="Sales", aggregate="sales", kind="line")
        """)
        try:
            nginx.start(urlsplit(server.url()).netloc, changes)
            yield Proxied(server, nginx, prefix)
        finally:
            nginx.stop()


def log_in(visitor: Visitor, path: str, password: str = PASSWORD) -> tuple[int, Any, str]:
    return visitor.post(path, username="admin", password=password)


@pytest.fixture
def visitor(proxied: Proxied) -> Visitor:
    """Return a visitor who is logged in."""
    made = proxied.nginx.visitor()
    status, _, page = log_in(made, proxied.path("/login/"))
    assert status == 302, page
    return made


def test_a_login_sets_cookies_that_are_secure_and_stay_below_the_path(proxied: Proxied) -> None:
    visitor = proxied.nginx.visitor()
    status, headers, _ = log_in(visitor, proxied.path("/login/"))
    assert status == 302
    assert headers["Location"] == proxied.path("/")
    suffix = f"_{proxied.nginx.port}{proxied.prefix.replace('/', '_')}"
    names = sorted(cookie.name for cookie in visitor.cookies)
    of_folder = names[0].removeprefix(f"zarkov_csrf{suffix}")  # its port is any free one
    assert re.fullmatch(r"_[0-9a-f]{8}", of_folder)
    assert names == [f"zarkov_csrf{suffix}{of_folder}", f"zarkov_session{suffix}{of_folder}"]
    for cookie in headers.get_all("Set-Cookie"):
        attributes = cookie.split("; ")
        assert "Secure" in attributes and f"Path={proxied.prefix or '/'}" in attributes, cookie
    assert "Log out admin" in visitor.get(proxied.path("/"))[2]


def test_a_logout_removes_the_session(proxied: Proxied, visitor: Visitor) -> None:
    assert any(cookie.name.startswith("zarkov_session") for cookie in visitor.cookies)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', visitor.get(proxied.path("/"))[2])
    assert token
    body = f"csrfmiddlewaretoken={token[1]}".encode()
    with visitor.open(proxied.path("/logout/"), body, Origin=proxied.nginx.origin) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, proxied.path("/login/"))
    assert not any(cookie.name.startswith("zarkov_session") for cookie in visitor.cookies)


def test_a_form_of_another_origin_is_refused(proxied: Proxied, visitor: Visitor) -> None:
    for origin in ("https://evil.example", f"http://{urlsplit(proxied.url).netloc}", "null"):
        with visitor.open(proxied.path("/login/"), b"username=admin", Origin=origin) as answer:
            assert answer.status == 403
            message = answer.read().decode()
            assert ("public_url" in message, "no-referrer" in message) == (True, origin == "null")


def test_the_admin_lets_staff_in_and_links_back_to_the_site(proxied: Proxied) -> None:
    visitor = proxied.nginx.visitor()
    assert log_in(visitor, proxied.path("/admin/login/?next=" + proxied.path("/admin/")))[0] == 302
    status, _, page = visitor.get(proxied.path("/admin/"))
    assert status == 200
    assert f'href="{proxied.path("/")}"' in page and f'"{proxied.path("/static/admin/css/base.css")}"' in page


def test_every_address_on_a_page_is_below_the_path(proxied: Proxied, visitor: Visitor) -> None:
    for path in ("/", "/aggregates/", "/aggregates/sales/", "/charts/sales/", "/jobs/", "/admin/aggregates/chart/"):
        status, _, page = visitor.get(proxied.path(path))
        assert status == 200, path
        found = re.findall(r'(?:href|src|action|data-stream|data-api|data-aggregates)="(/[^"]*)"', page)
        assert found and [link for link in found if not link.startswith(f"{proxied.prefix}/")] == [], path
        for link in {link for link in found if "/static/" in link}:
            assert visitor.get(link)[0] == 200, link


def test_what_people_copy_has_the_public_address(proxied: Proxied, visitor: Visitor) -> None:
    assert f"{proxied.url}/api/v1/events/" in visitor.get(proxied.path("/"))[2]
    assert f"{proxied.url}/api/v1/series/sales/" in visitor.get(proxied.path("/aggregates/sales/"))[2]
    root = json.loads(visitor.get(proxied.path("/api/v1/"), Accept="application/json")[2])
    assert root["events"] == f"{proxied.url}/api/v1/events/"
    schema = json.loads(visitor.get(proxied.path("/api/v1/schema/?format=json"))[2])
    assert schema["servers"] == [{"url": proxied.url}]
    assert "/api/v1/events/" in schema["paths"]


def test_an_embed_link_has_the_public_address_and_shows_its_chart(proxied: Proxied, visitor: Visitor) -> None:
    page = proxied.path("/charts/sales/")
    assert visitor.post(page, name="wiki", origins="https://wiki.example.org", days="1")[0] == 302
    code = re.search(r"&lt;iframe src=&quot;([^&]+)&quot;", visitor.get(page)[2])
    assert code and code[1].startswith(f"{proxied.url}/embed/")
    stranger = proxied.nginx.visitor()
    status, headers, text = stranger.get(code[1])
    assert status == 200 and "https://wiki.example.org" in headers["Content-Security-Policy"]
    stream = re.search(r'data-stream="([^"]+)"', text)
    assert stream and stream[1].startswith(f"{proxied.prefix}/embed/")


def test_a_stream_arrives_while_it_is_open(proxied: Proxied, visitor: Visitor) -> None:
    with visitor.open(proxied.path("/live/charts/?chart=sales")) as answer:
        stream = Stream(answer)
        assert stream.next()[0] == "series:sales"
        write_aggregate(proxied.server.database, "sales", {"a/2025-01": 4321}, through=80)
        proxied.server.announce("sales", 80)
        kind, _, data = stream.next()
        assert kind == "points:sales" and [1735689600000, 4321] in [list(point) for point in data["series"][0]["set"]]


def test_events_are_accepted_chunked_and_of_known_length(proxied: Proxied) -> None:
    visitor = proxied.nginx.visitor()
    line = b'{"type": "proxied"}\n'
    headers = {"Authorization": f"Token {proxied.server.token}", "Content_Type": "application/x-ndjson"}
    for body, more in ((line * 3, {}), (line * 3, {"Transfer_Encoding": "chunked"})):
        data: Any = iter([body[:7], body[7:]]) if more else body
        with visitor.open(proxied.path("/api/v1/events/"), data, **headers, **more) as answer:
            assert json.loads(answer.read()) == {"accepted": 3, "rejected": []}


def is_stopped(answers: Iterable[str]) -> bool:
    """Return True once an answer says that there were too many wrong passwords."""
    return any("Too many wrong passwords" in answer for answer in answers)


@pytest.mark.parametrize("proxied", ["another address", "below a path"], indirect=True)  # see also the next test
def test_wrong_passwords_are_counted_by_the_real_client(proxied: Proxied) -> None:
    first, second = (proxied.nginx.visitor(source) for source in ("127.0.0.5", "127.0.0.6"))
    login = proxied.path("/login/")
    assert is_stopped(log_in(first, login, "wrong")[2] for _ in range(MOST_TRIES))
    assert log_in(second, login)[0] == 302


@pytest.mark.parametrize("proxied", ["loopback", "another address"], indirect=True)
def test_a_client_cannot_choose_the_address_it_is_counted_by(proxied: Proxied) -> None:
    visitor = proxied.nginx.visitor("127.0.0.7")  # not a trusted proxy
    token = re.search(r'value="(\w{64})"', visitor.get("/login/")[2])
    assert token
    body = f"username=bob&password=wrong&csrfmiddlewaretoken={token[1]}".encode()

    def answers() -> Iterator[str]:
        for number in range(MOST_TRIES):
            spoofed = {"X_Forwarded_For": f"203.0.113.{number}", "X_Real_IP": f"203.0.113.{number}"}
            with visitor.open("/login/", body, Referer=f"{proxied.nginx.origin}/", **spoofed) as answer:
                yield answer.read().decode()

    assert is_stopped(answers())


def test_a_login_past_the_proxy_works_beside_it(proxied: Proxied) -> None:
    visitor = proxied.nginx.visitor()
    visitor.origin = proxied.server.url().rstrip("/")
    status, headers, _ = log_in(visitor, "/login/")
    assert (status, headers["Location"]) == (302, "/")
    assert not any("Secure" in cookie for cookie in headers.get_all("Set-Cookie"))
    page = visitor.get("/")[2]
    assert "Log out admin" in page and 'href="/charts/"' in page and '"/static/zarkov/zarkov.css"' in page


def test_a_load_balancer_asks_the_bare_address(proxied: Proxied) -> None:
    for path in ("healthz", "readyz"):
        request = urllib.request.Request(proxied.server.url(path), headers={"Host": "10.1.2.3:8181"})
        with urllib.request.urlopen(request, timeout=90) as answer:
            assert answer.status == 200


@pytest.mark.browser
def test_a_person_logs_in_makes_a_link_and_sees_it_live(proxied: Proxied, browser: Browser) -> None:
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(chromium.WITHIN_MS)
    failed: list[str] = []
    context.on("response", lambda answer: answer.status >= 400 and failed.append(f"{answer.status} {answer.url}"))
    context.on("console", lambda message: message.type == "error" and failed.append(message.text))
    page = context.new_page()
    page.goto(f"{proxied.url}/login/?next={proxied.path('/charts/sales/')}")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{proxied.url}/charts/sales/")
    expect(page.locator(".live-status")).to_have_text("Live")
    expect(page.locator("canvas")).to_be_visible()
    page.goto(f"{proxied.url}/")
    expect(page.locator(".live-status")).to_have_text("Live")
    link = page.locator("#aggregates a", has_text="sales")
    expect(link).to_have_attribute("href", proxied.path("/aggregates/sales/"))
    page.goto(f"{proxied.url}/jobs/")
    expect(page.locator(".live-status")).to_have_text("Live")
    session = next(cookie for cookie in context.cookies() if cookie["name"].startswith("zarkov_session"))
    assert session["secure"] and session["httpOnly"] and session["path"] == (proxied.prefix or "/")
    page.get_by_role("button", name="Log out admin").click()
    page.wait_for_url(f"{proxied.url}/login/")
    context.close()
    assert failed == []

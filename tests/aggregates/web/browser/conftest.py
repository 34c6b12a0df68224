"""Run a real Chromium on a real server; errors, blocked content and requests to other hosts fail the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request

from tests.support import chromium
from tests.support.web.charts import LONG_NAME
from tests.support.web.embedding_site import Site
from tests.support.web.server import PASSWORD, Server, write_aggregate

MONTHS = [f"{year}-{month:02d}" for year in range(2020, 2025) for month in range(1, 13)]


@pytest.fixture(scope="session")
def charts(server: Server) -> Server:
    """Return the server with aggregates, charts and a dashboard."""
    months = {f"{name}/{month}": (i * (n + 3)) % 40 for n, name in enumerate(("celery", "gevent", "pyzmq"))
              for i, month in enumerate(MONTHS)}  # fmt: skip
    write_aggregate(server.database, "commits", months, through=60)
    lines = {month: {"insertions": i * 7 % 90, "deletions": i * 5 % 60} for i, month in enumerate(MONTHS)}
    write_aggregate(server.database, "lines", lines, through=60)
    days = [f"2024-01-{day:02d}" for day in range(1, 20)]
    odd = {f"customer-{'x' * 90}-{number}/{day}": number for number in range(3) for day in days}
    write_aggregate(server.database, LONG_NAME, odd, through=60)
    write_aggregate(server.database, "kinds", {"py": 300, "rst": 40, "=cmd": 7}, through=60)
    server.django("""
        from aggregates.models import Chart, Dashboard, DashboardItem
        made = [
            Chart.objects.create(slug=slug, title=title, aggregate=aggregate, kind=kind, **more)
            for slug, title, aggregate, kind, more in [
                ("commits", "Commits", "commits", "stacked", {"unit": "commits"}),
                ("lines", "Lines", "lines", "line", {}),
                ("area", "Area", "commits", "area", {}),
                ("bars", "Bars", "commits", "bar", {"prefix": "celery/"}),
                ("kinds", "Kinds", "kinds", "bar", {}),
                ("table", "Table", "commits", "table", {}),
                ("number", "Number", "commits", "number", {"prefix": "celery/", "unit": "commits"}),
                ("late", "Still to come", "nothing_yet", "line", {}),
            ]
        ]
        board = Dashboard.objects.create(slug="all", title="All kinds")
        for position, chart in enumerate(made[:6]):
            DashboardItem.objects.create(dashboard=board, chart=chart, position=position, wide=position == 0)
    """)
    return server


class Watched:
    """Record errors, blocked content and foreign requests of a browser context."""

    def __init__(self, context: BrowserContext, hosts: set[str]) -> None:
        self.faults: list[str] = []
        self.expected: tuple[str, ...] = ()
        self.expected_faults: list[str] = []
        self.hosts = hosts
        context.on("console", lambda message: message.type == "error" and self.add(message.text))
        context.on("weberror", lambda error: self.add(str(error.error)))
        context.on("request", self._request)

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https"} and parts.netloc not in self.hosts:
            self.add(f"request to {request.url}")

    def add(self, fault: str) -> None:
        (self.expected_faults if any(text in fault for text in self.expected) else self.faults).append(fault)


@pytest.fixture
def open_context(browser: Browser, charts: Server) -> Iterator[Callable[..., tuple[BrowserContext, Watched]]]:
    """Yield a function that opens contexts; assert at the end that none recorded a fault."""
    made: list[tuple[BrowserContext, Watched]] = []

    def make(*hosts: str, **options: Any) -> tuple[BrowserContext, Watched]:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = browser.new_context(**options)
        context.set_default_timeout(chromium.WITHIN_MS)
        watched = Watched(context, {urlsplit(charts.url()).netloc, *hosts})
        made.append((context, watched))
        return context, watched

    yield make
    for context, watched in made:
        context.close()
        assert watched.faults == []


@pytest.fixture
def page(open_context: Callable[..., tuple[BrowserContext, Watched]]) -> Page:
    """Return a page of an anonymous visitor."""
    return open_context()[0].new_page()


@pytest.fixture
def admin_page(open_context: Callable[..., tuple[BrowserContext, Watched]], charts: Server) -> Page:
    """Return a page of the logged-in administrator."""
    opened = open_context()[0].new_page()
    opened.goto(charts.url("login/?next=/"))
    opened.get_by_label("User name").fill("admin")
    opened.get_by_label("Password").fill(PASSWORD)
    opened.get_by_role("main").get_by_role("button", name="Log in").click()
    opened.wait_for_url(charts.url())
    return opened


@pytest.fixture
def site() -> Iterator[Site]:
    """Yield another site, which embeds charts."""
    made = Site()
    yield made
    made.close()


@pytest.fixture
def wiki(site: Site, open_context: Callable[..., Any]) -> tuple[Site, Page, Any]:
    """Return the other site, a visitor's page, and the record of the visitor's browser."""
    context, watched = open_context(site.host)
    return site, context.new_page(), watched

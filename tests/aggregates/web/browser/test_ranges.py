"""The range of time of charts in a browser: buttons, and the address of the page."""

from __future__ import annotations

import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.web.charts import drawn
from tests.support.web.embedding_site import embed_link
from tests.support.web.server import Server, write_aggregate

pytestmark = [pytest.mark.browser, pytest.mark.early]


def test_another_range_can_be_chosen(charts: Server, page: Page) -> None:
    month = time.strftime("%Y-%m")
    write_aggregate(charts.database, "commits", {f"gevent/{month}": 77}, through=63)
    page.goto(charts.url("charts/commits/"))
    figure = drawn(page, "commits")
    figure.get_by_text("Data as a table").click()
    page.get_by_role("button", name="1 y").click()
    expect(figure.locator("tbody tr").first).to_contain_text("77")
    expect(page.get_by_role("button", name="1 y")).to_have_attribute("aria-pressed", "true")


def test_the_chosen_range_is_in_the_address(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/commits/"))
    drawn(page, "commits")
    page.get_by_role("button", name="5 y").click()
    page.wait_for_url("**/charts/commits/?from=-5y")
    with page.expect_request(lambda request: "live/charts" in request.url and "from=-5y" in request.url):
        page.reload()
    expect(page.get_by_role("button", name="5 y")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="All")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="All").click()
    page.wait_for_url("**/charts/commits/")


@pytest.mark.parametrize("path", ["charts/lines/", "aggregates/lines/", "dashboards/all/", "embed"])
def test_a_page_shows_the_range_of_its_address(charts: Server, page: Page, path: str) -> None:
    if path == "embed":
        path, _ = embed_link(charts, range_adjustable=True)
    name = "" if path.startswith("aggregates") else "commits" if path.startswith("embed") else "lines"
    with page.expect_request(lambda request: "live/" in request.url) as asked:
        page.goto(charts.url(f"{path}?from=2021-03&to=2021-05&tz=Asia/Tokyo"))
    assert {"from=2021-03", "to=2021-05", "tz=Asia%2FTokyo"} <= set(asked.value.url.partition("?")[2].split("&"))
    figure = drawn(page, name)
    expect(page.locator(".ranges .chosen")).to_have_text("2021-03 – 2021-05, Asia/Tokyo")
    expect(page.locator(".ranges [aria-pressed=true]")).to_have_count(0)
    figure.get_by_text("Data as a table").click()
    expect(figure.locator("tbody tr")).to_have_count(3)
    page.get_by_role("button", name="All").click()
    page.wait_for_url(f"**/{path}")
    expect(figure.locator("tbody tr")).not_to_have_count(3)
    expect(page.locator(".ranges .chosen")).to_have_count(0)
    expect(page.get_by_role("button", name="All")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize(
    "path", ["charts/commits/", "charts/commits/?from=-1y", "aggregates/lines/", "dashboards/all/"]
)
def test_a_click_on_the_range_that_is_shown_keeps_the_charts(charts: Server, page: Page, path: str) -> None:
    page.goto(charts.url(path))
    drawn = page.locator("figure.chart[data-drawn]")
    expect(page.locator(".live-status")).to_have_text("Live")
    for _ in range(2):
        with page.expect_request(lambda request: "live" in request.url):
            page.locator(".ranges button[aria-pressed=true]").click()
        expect(page.locator(".live-status")).to_have_text("Live")
        expect(drawn.locator("canvas, table, .number, .empty").first).to_be_visible()


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("from=2024-10", "from 2024-10"),
        ("to=2020-02", "until 2020-02"),
        ("tz=Asia/Tokyo", "Asia/Tokyo"),
        ("tz=Etc/GMT+5", "Etc/GMT+5"),
        ("from=-5y&tz=UTC", "from -5y, UTC"),
        ("from=2011-07-01T00:00+02:00&to=now", "2011-07-01T00:00 02:00 – now"),
    ],
)
def test_a_range_without_a_button_is_shown_in_words(charts: Server, page: Page, query: str, shown: str) -> None:
    page.goto(charts.url(f"charts/commits/?{query}"))
    expect(page.locator(".live-status")).to_have_text("Live")
    expect(page.locator(".ranges .chosen")).to_have_text(shown)
    page.get_by_role("button", name="1 y").click()
    page.wait_for_url("**/charts/commits/?from=-1y")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from=yesterday", "'yesterday' is not a point in time"),
        ("from=2021&to=2020", "2021"),
        ("tz=Mars", "tz = 'Mars' is not a time zone"),
    ],
)
def test_a_page_says_what_is_wrong_with_the_range_of_its_address(
    open_context: Any, charts: Server, query: str, message: str
) -> None:
    context, watched = open_context()
    watched.expected = ("400",)
    page = context.new_page()
    page.goto(charts.url(f"charts/commits/?{query}"))
    expect(page.get_by_role("alert")).to_contain_text(message)
    page.get_by_role("button", name="All").click()
    drawn(page, "commits")
    expect(page.get_by_role("alert")).to_have_count(0)

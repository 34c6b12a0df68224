"""Pages in a browser: live updates, mouse and keyboard, wide and narrow, dark and light."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.durations import assert_within
from tests.support.web.charts import LONG_NAME, drawn
from tests.support.web.server import PASSWORD, Server, write_aggregate
from zarkov_site.config.config import REPOSITORY

pytestmark = [pytest.mark.browser, pytest.mark.early]
PAGES = [
    "/",
    "/aggregates/",
    "/aggregates/commits/",
    "/charts/",
    "/charts/commits/",
    "/dashboards/all/",
    "/jobs/",
    "/login/",
]


def test_a_posted_event_is_shown_on_the_open_overview_within_a_second(charts: Server, page: Page) -> None:
    page.goto(charts.url())
    expect(page.locator(".live-status")).to_have_text("Live")

    def shown() -> float:
        kind = f"shown-{uuid.uuid4().hex}"
        began = time.monotonic()
        charts.post_events({"type": kind, "context": {"who": "ann"}})
        row = page.locator("#latest li", has_text=kind)
        expect(row).to_be_visible()
        took = time.monotonic() - began
        expect(row).to_contain_text("who: ann")
        return took

    assert_within(1, shown)
    kind = f"listed-{uuid.uuid4().hex}"
    charts.post_events({"type": kind})
    expect(page.locator("#types li", has_text=kind)).to_be_visible()


def test_content_of_events_is_shown_as_text_and_never_as_markup(charts: Server, page: Page) -> None:
    page.goto(charts.url())
    expect(page.locator(".live-status")).to_have_text("Live")
    charts.post_events({"type": "<img src=x onerror=alert(1)>", "context": {"<b>": "<script>alert(2)</script>"}})
    row = page.locator("#latest li", has_text="<img src=x onerror=alert(1)>")
    expect(row).to_be_visible()
    assert row.locator("img, script, b").count() == 0


def test_an_open_chart_is_updated_without_reloading(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/commits/"))
    figure = drawn(page, "commits")
    page.evaluate("window.stillThere = true")
    figure.get_by_text("Data as a table").click()
    numbers = itertools.count(4321)

    def shown() -> float:
        number = next(numbers)
        write_aggregate(charts.database, "commits", {"celery/2025-01": number}, through=number - 4260)
        began = time.monotonic()
        charts.announce("commits", number - 4260)
        expect(figure.locator("tbody tr", has_text=f"{number:,}")).to_be_visible()
        took = time.monotonic() - began
        expect(figure).to_have_attribute("data-through", str(number - 4260))
        return took

    assert_within(1, shown)
    assert page.evaluate("window.stillThere") is True


def test_a_dashboard_receives_all_charts_from_one_stream(charts: Server, page: Page) -> None:
    streams: list[str] = []
    page.on("request", lambda request: "live/" in request.url and streams.append(request.url))
    page.goto(charts.url("dashboards/all/"))
    page.wait_for_function("() => [...document.querySelectorAll('.chart')].filter(f => f.dataset.drawn).length === 6")
    assert len(streams) == 1


def test_a_hidden_page_closes_its_connection(charts: Server, page: Page) -> None:
    page.add_init_script("const later = setTimeout; window.setTimeout = (f, ms) => later(f, ms === 5000 ? 1 : ms)")
    page.goto(charts.url("charts/commits/"))
    drawn(page, "commits")
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", {get: () => window.hiddenNow, configurable: true});
        window.hiddenNow = true;
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    expect(page.locator(".live-status")).to_have_text("Paused")
    page.evaluate("() => { window.hiddenNow = false; document.dispatchEvent(new Event('visibilitychange')); }")
    expect(page.locator(".live-status")).to_have_text("Live")


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(charts: Server, open_context: Callable[..., Any], path: str) -> None:
    context, _ = open_context(color_scheme="light", bypass_csp=True)
    opened = context.new_page()
    opened.goto(charts.url(path))
    if opened.locator(".chart[data-name]").count():
        opened.wait_for_function(
            "() => [...document.querySelectorAll('.chart[data-name]')].every(f => f.dataset.drawn)"
        )
    opened.add_script_tag(path=str(Path(REPOSITORY) / "node_modules" / "axe-core" / "axe.min.js"))
    # Only colours differ between the two.
    for scheme, rules in (("light", "{}"), ("dark", "{ runOnly: ['color-contrast'] }")):
        opened.emulate_media(color_scheme=scheme)
        found = opened.evaluate(f"() => axe.run(document, {rules})")
        serious = [
            (item["id"], [node["html"][:120] for node in item["nodes"]])
            for item in found["violations"]
            if item["impact"] in {"serious", "critical"}
        ]
        assert serious == [], scheme


@pytest.mark.parametrize("path", [*PAGES, f"/aggregates/{LONG_NAME}/"])
def test_pages_fit_a_phone(charts: Server, open_context: Callable[..., Any], path: str) -> None:
    context, _ = open_context(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    opened = context.new_page()
    opened.goto(charts.url(path))
    if opened.locator(".chart[data-name]").count():
        opened.wait_for_function(
            "() => [...document.querySelectorAll('.chart[data-name]')].every(f => f.dataset.drawn)"
        )
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_chart_is_made_and_embedded_without_code(charts: Server, admin_page: Page) -> None:
    page = admin_page
    page.get_by_role("navigation").get_by_role("link", name="Aggregates").click()
    page.get_by_role("link", name="kinds").click()
    page.get_by_role("link", name="Create a chart").click()
    drawn(page, "")
    page.get_by_label("Kind", exact=True).select_option(label="Table")
    expect(page.locator(".chart .canvas table")).to_be_visible()  # the preview follows the choice
    page.get_by_label("Kind", exact=True).select_option(label="Bars")
    page.get_by_role("button", name="Create chart").click()
    page.wait_for_url(charts.url("charts/kinds-2/#main"))  # a chart named kinds exists
    drawn(page, "kinds-2")
    page.get_by_label("Name", exact=True).fill("the wiki")
    page.get_by_label("Site that will show it").fill("https://wiki.example.org/some/page?x=1")
    page.get_by_role("button", name="Create link").click()
    code = page.locator("pre", has_text="<iframe").inner_text()
    expect(page.get_by_text("on https://wiki.example.org ·")).to_be_visible()
    address = code.split('src="')[1].split('"')[0]
    page.goto(address)
    expect(page.locator(".bars li").first).to_contain_text("py")


def test_every_page_of_the_admin_is_shown_without_errors(charts: Server, admin_page: Page) -> None:
    """The list of each model, its form for a new row and that of the first one; no script is blocked."""
    page = admin_page
    page.goto(charts.url("admin/"))
    links = page.locator("#content-main tr[class^=model-] a").evaluate_all("links => links.map(link => link.href)")
    for link in links:
        page.goto(link)
        first = page.locator("#result_list tbody th a").first
        if first.count():
            first.click()
            expect(page.locator("#content h1")).to_be_visible()
    assert {link.split("/admin/")[1].split("/")[1] for link in links} >= {"aggdef", "periodictask", "user", "group"}


def test_a_task_in_the_admin_shows_its_crontab_in_words(charts: Server, admin_page: Page) -> None:
    page = admin_page
    page.goto(charts.url("admin/django_celery_beat/crontabschedule/add/"))
    page.get_by_label("Minute").fill("*/5")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto(charts.url("admin/django_celery_beat/periodictask/add/"))
    page.get_by_label("Name:").fill("mine")
    page.get_by_label("Task (custom):").fill("tasks.mine")
    page.get_by_label("Crontab Schedule:").select_option(index=1)
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator(".field-crontab_translation")).to_contain_text("Every 5 minutes")


def test_saving_a_chart_in_the_admin_shows_it(charts: Server, admin_page: Page) -> None:
    page = admin_page
    page.goto(charts.url("charts/area/"))
    page.get_by_role("link", name="Change").click()
    page.get_by_label("Title:").fill("The area")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(charts.url("charts/area/"))
    expect(page.get_by_role("heading", name="The area")).to_be_visible()


def test_a_token_made_in_the_admin_is_shown_once_and_works(charts: Server, admin_page: Page) -> None:
    page = admin_page
    page.goto(charts.url("admin/aggregates/accesstoken/add/"))
    page.get_by_label("Name:").fill("made in admin")
    page.get_by_label("read: aggregates").uncheck()
    page.get_by_label("ingest: send events").check()
    page.get_by_role("button", name="Save", exact=True).click()
    text = page.locator(".messagelist code").inner_text()
    assert charts.request("api/v1/events/", {"type": "x"}, token=text)[0] == 200
    assert charts.request("api/v1/runs/", token=text)[0] == 403
    page.reload()
    assert page.locator(".messagelist code").count() == 0
    assert text not in page.content()


def test_a_wrong_password_is_refused_and_a_login_returns_to_the_page(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/commits/"))
    page.get_by_role("link", name="Log in").click()
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    expect(page.locator(".errorlist")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    page.wait_for_url(charts.url("charts/commits/"))
    expect(page.get_by_role("heading", name="Embed in another page")).to_be_visible()

"""A newcomer's first minutes in a real browser: numbers on open pages change when an event is sent."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support import chromium
from tests.support.durations import assert_within
from tests.support.system import System
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600), pytest.mark.early]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(chromium.WITHIN_MS)
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    opened.close()
    assert problems == []


def send(system: System, kind: str = "hello") -> None:
    """Run the printed curl command with an event of type `kind`."""
    line = system.curl_line().replace('"hello"', json.dumps(kind))
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=90, check=True)
    assert json.loads(done.stdout)["accepted"] == 1, done.stdout


def test_the_overview_shows_the_commits_of_three_projects(system: System, page: Page) -> None:
    page.goto(system.url())
    expect(page.get_by_role("heading", name="Commits per day")).to_be_visible()
    for project in ("celery", "gevent", "pyzmq"):
        expect(page.get_by_role("button", name=project)).to_be_visible()


def test_the_overview_shows_an_event_within_a_second(system: System, page: Page) -> None:
    page.goto(system.url())
    expect(page.locator("#latest li").first).to_be_visible()
    expect(page.get_by_text("Live", exact=True).first).to_be_visible()
    send(system, "before")  # events of other tests may wait in the journal, and this one waits behind them
    expect(page.locator("#latest li").first).to_contain_text("before")
    newest = itertools.count(1 + int(page.locator("#stored").inner_text().replace(",", "")))

    def shown() -> float:
        number = next(newest)
        send(system, f"greeting-{number}")
        before = time.monotonic()
        expect(page.locator("#latest li").first).to_contain_text(f"greeting-{number}")
        expect(page.locator("#stored")).to_have_text(f"{number:,}")
        return time.monotonic() - before

    assert_within(1, shown)


def test_an_open_chart_is_updated_without_reloading(system: System, page: Page) -> None:
    send(system, "first")
    eventually(lambda: '"first"' in system.get("q?a=%7B%22c%22:%22events_by_type%22%7D"))
    page.goto(system.url("charts/events-by-type/"))
    bar = page.get_by_role("listitem").filter(has_text="first")
    expect(bar).to_contain_text("1 event")
    page.evaluate("window.neverReloaded = true")
    send(system, "first")
    expect(bar).to_contain_text("2 event")
    assert page.evaluate("window.neverReloaded")


def test_the_chart_of_three_projects_is_drawn(system: System, page: Page) -> None:
    page.goto(system.url("charts/commits-per-day/"))
    expect(page.locator("canvas").first).to_be_visible()
    for project in ("celery", "gevent", "pyzmq"):
        expect(page.get_by_role("button", name=project)).to_be_visible()
    drawn = page.evaluate(
        """() => { const c = document.querySelector('canvas');
        const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const seen = new Set(); for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200)
        seen.add(data[i] + ',' + data[i + 1] + ',' + data[i + 2]); return seen.size; }"""
    )
    assert drawn > 3, "the lines of the three projects have different colours"


def test_admin_lists_aggregates_tasks_and_runs(system: System, page: Page) -> None:
    page.goto(system.url("admin/"))
    page.fill("#id_username", "admin")
    page.fill("#id_password", system.folder.admin_password.read_text().strip())
    page.click("[type=submit]")
    page.get_by_role("link", name="Registered tasks").first.click()
    expect(page.locator("#content")).to_contain_text("aggregates.agg_tasks.CommitsByDay")
    page.goto(system.url("admin/aggregates/aggdef/"))
    page.get_by_role("checkbox").nth(1).check()
    page.get_by_label("Action:").select_option(label=next(label for label in actions(page) if "full" in label.lower()))
    page.get_by_role("button", name="Go").click()
    page.goto(system.url("admin/aggregates/run/"))
    expect(page.locator("#content")).to_contain_text("full")
    eventually(lambda: "complete" in (page.reload(), page.locator("#content").inner_text())[1])


def actions(page: Page) -> list[str]:
    return page.get_by_label("Action:").locator("option").all_inner_texts()


def test_pages_fit_a_phone(system: System, page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for path in ("", "charts/commits-per-day/", "dashboards/open-source/"):
        page.goto(system.url(path))
        page.wait_for_load_state("load")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path

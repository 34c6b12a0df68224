"""Take the pictures of the documentation from a running system: `python -m tests.screenshots docs/images`."""

from __future__ import annotations

import contextlib
import math
import random
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from ingest.client import ZarkovClient
from tests.support import chromium
from tests.support.leftovers import guard
from tests.support.system import System, running
from tests.support.waiting import eventually

WIDTH = 1200
ADMIN_WIDTH = 1440  # lists with their filters beside them
SCALE = 1.5
WAIT_S = 900.0  # for any condition: the machine may be busy


def take(page: Page, system: System, folder: Path) -> None:
    """Open each page, wait for the element that is drawn last, and save a picture."""
    pictures = {
        "chart": ("charts/commits-per-day/", 760, "canvas"),
        "dashboard": ("dashboards/open-source/", 1050, "canvas"),
        "aggregate": ("aggregates/commits_by_day/", 1100, "canvas"),
    }
    for name, (path, height, last) in pictures.items():
        page.set_viewport_size({"width": WIDTH, "height": height})
        page.goto(system.url(path))
        page.locator(last).first.wait_for()
        page.get_by_text("Live", exact=True).first.wait_for()
        page.screenshot(path=folder / f"{name}.png")


def take_admin(page: Page, system: System, folder: Path) -> None:
    """Log in to the admin and take pictures of its pages."""
    page.goto(system.url("admin/"))
    page.fill("#id_username", "admin")
    page.fill("#id_password", system.folder.admin_password.read_text().strip())
    page.click("[type=submit]")
    take_aggregates(page, system, folder)


LIST = "admin/aggregates/aggdef/"
FORM = {
    "#id_name": "celery_commits",
    "#id_description": "Commits of the project celery on each day.",
    "#id_task_name": "aggregates.agg_tasks.CommitsByDay",
    "#id_filter": '{"type": "commit", "context.project": "celery"}',
}


def take_aggregates(page: Page, system: System, folder: Path) -> None:
    """Take the pictures of docs/aggregates.md: list, form with preview, result of a verification, runs."""

    def save(name: str, height: int) -> None:
        page.set_viewport_size({"width": ADMIN_WIDTH, "height": height})
        page.screenshot(path=folder / f"{name}.png")

    def done(path: str) -> None:
        """Wait until all runs have ended, then open `path`."""

        def any_open() -> bool:
            for state in ("planned", "running"):
                page.goto(system.url(f"admin/aggregates/run/?state__exact={state}"))
                if page.locator("#result_list").count():
                    return True
            return False

        eventually(lambda: not any_open(), WAIT_S, "the end of all runs")
        page.goto(system.url(path))

    page.goto(system.url(f"{LIST}add/"))
    for field, text in FORM.items():
        page.fill(field, text)
    save("admin-add", 980)
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Preview on the newest events").click()
    opened.value.get_by_text("Nothing was saved or written").wait_for()
    opened.value.set_viewport_size({"width": ADMIN_WIDTH, "height": 560})
    opened.value.screenshot(path=folder / "admin-preview.png")
    opened.value.close()
    page.goto(system.url(LIST))
    page.get_by_role("link", name="commits_by_day", exact=True).click()
    for action in ("Recompute in full", "Verify"):
        page.get_by_role("button", name=action, exact=True).click()
        page.get_by_text("has been queued").wait_for()
    done(page.url.removeprefix(system.url("")))
    page.get_by_text("equal to the recount").wait_for()
    page.get_by_role("heading", name="Current state").scroll_into_view_if_needed()
    page.locator("fieldset", has_text="Current state").last.screenshot(path=folder / "admin-verification.png")
    page.goto(system.url(LIST))
    save("admin-aggregates", 520)
    page.goto(system.url("admin/aggregates/run/"))
    save("admin-runs", 560)


def take_overview(page: Page, system: System, folder: Path) -> None:
    """Send events of a shop for half a minute, then take a picture of the first page."""
    page.set_viewport_size({"width": WIDTH, "height": 640})
    page.goto(system.url(""))
    chance = random.Random(1)
    with contextlib.closing(ZarkovClient(system.folder.address("bson_bind_address"))) as client:
        for second in range(35):
            for kind, rate in (("visit", 8 + 4 * math.sin(second / 3)), ("search", 4), ("purchase", 1)):
                for _ in range(int(chance.uniform(0.5, 1.5) * rate + chance.random())):
                    client.event(kind, {"page": chance.choice(["/home", "/pricing", "/docs"]), "country": "DE"})
            page.wait_for_timeout(1000)
    page.screenshot(path=folder / "overview.png")


def main(folder: Path) -> None:
    """Start a system with the sample, take all pictures, stop it."""
    folder.mkdir(parents=True, exist_ok=True)
    guard()
    with (
        tempfile.TemporaryDirectory() as home,
        running(Path(home) / "home", ready_within_s=WAIT_S) as system,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium.executable(), args=chromium.ARGUMENTS)
        page = browser.new_page(device_scale_factor=SCALE)
        page.set_default_timeout(WAIT_S * 1000)
        take(page, system, folder)
        take_admin(page, system, folder)
        page.context.clear_cookies()
        take_overview(page, system, folder)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

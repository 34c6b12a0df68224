"""Takes the pictures of the documentation from a running system: `python -m tests.screenshots docs/images`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests import chromium
from tests.system import System, running

WIDTH = 1200
SCALE = 1.5


def take(page: Page, system: System, folder: Path) -> None:
    """Open each page, wait for what is drawn last, and save it."""
    pictures = {
        "front": ("", 900, "#latest li"),
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
    """The admin's pages, after a login."""
    page.goto(system.url("admin/"))
    page.fill("#id_username", "admin")
    page.fill("#id_password", system.folder.admin_password.read_text().strip())
    page.click("[type=submit]")
    for name, path in {
        "admin-aggregates": "admin/aggregates/aggdef/",
        "admin-add": "admin/aggregates/aggdef/add/",
    }.items():
        page.set_viewport_size({"width": WIDTH, "height": 800})
        page.goto(system.url(path))
        page.screenshot(path=folder / f"{name}.png")


def main(folder: Path) -> None:
    """Start a system with the sample, take all pictures, stop it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, running(Path(home) / "home") as system, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.executable(), args=chromium.ARGUMENTS)
        page = browser.new_page(device_scale_factor=SCALE)
        take(page, system, folder)
        take_admin(page, system, folder)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

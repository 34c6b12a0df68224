"""Refused input is mended and replayed in the browser, from the receiver to the store."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.waiting import eventually
from tests.support.web.server import Server

pytestmark = pytest.mark.browser


def test_refused_input_is_found_mended_and_replayed(admin_page: Page, charts: Server) -> None:
    refused = [{"typ": "mend", "context": {"n": n}} for n in range(3)]
    assert charts.request("api/v1/events/", refused, token=charts.token)[0] == 400
    mine = {"raw": {"$exists": True}, "code": "unknown_field"}
    eventually(lambda: charts.database["quarantine"].count_documents(mine) >= 3, what="quarantine")
    page = admin_page
    page.goto(charts.url("admin/"))
    page.get_by_role("link", name="Quarantine").first.click()
    page.get_by_role("link", name="unknown_field").click()
    page.get_by_label("Select all on this page").check()
    assert page.locator("input[name=key]:checked").count() == page.locator("input[name=key]").count()
    page.get_by_role("button", name="Replay selected").click()
    expect(page.locator(".messagelist")).to_contain_text("still refused")
    page.locator("#content tbody th a").first.click()
    text = page.get_by_label("Event to send")
    text.fill(text.input_value().replace('"typ"', '"type"'))
    page.get_by_role("button", name="Replay this").click()
    expect(page.locator(".messagelist")).to_contain_text("1 replayed")
    eventually(lambda: charts.database["event"].count_documents({"type": "mend"}) == 1)

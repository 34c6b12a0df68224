"""Zooming in a hundred thousand points is quick and loses no extreme."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import CDPSession, Page

from tests.support.web.charts import drawn
from tests.support.web.server import Server

pytestmark = pytest.mark.browser
POINTS = 100_000
HIGHEST = 54_321
REDRAWN_S = 0.1

# Count the line's pixels in the uppermost fifth of the plot, which only the one extreme reaches.
REACHES_TOP = """() => {
    const canvas = document.querySelector(".canvas canvas");
    const rgb = getComputedStyle(document.querySelector(".legend .dot")).color.match(/\\d+/g).map(Number);
    const height = Math.floor(canvas.height / 5);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] > 60 && rgb.every((part, n) => Math.abs(data[i + n] - part) < 40)) found++;
    }
    return found;
}"""
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"


@pytest.fixture
def many(charts: Server, page: Page) -> Any:
    """Return the chart of an aggregate with many points, one of them far above the others."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    charts.database["zagg.many"].drop()
    charts.database["zagg.many"].insert_many(
        {
            "_id": f"{start + timedelta(minutes=i):%Y-%m-%dT%H:%M}",
            "value": 1000 if i == HIGHEST else i % 10,
            "through": 1,
        }
        for i in range(POINTS)
    )
    page.goto(charts.url("aggregates/many/"))
    return drawn(page)


def zoom(page: Page, box: Any, left: float, right: float) -> None:
    """Drag over the plot."""
    page.mouse.move(box["x"] + left, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + right, box["y"] + 100)
    page.mouse.up()


def busy_s(session: CDPSession) -> float:
    """Return the processor time of the page's main thread until now, in seconds."""
    metrics = {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


def test_zooming_in_100000_points_redraws_within_100_ms_and_keeps_extremes(many: Any, page: Page) -> None:
    canvas = many.locator(".canvas")
    page.wait_for_function(f"() => ({REACHES_TOP})() > 0")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    box = canvas.bounding_box()
    assert box is not None
    taken = []
    for part in range(1, 6):  # by mouse: zoom in around the middle, then out
        begun = busy_s(session)
        zoom(page, box, 60 + part * 20, box["width"] - part * 20)
        page.evaluate(TWO_FRAMES)
        taken.append(busy_s(session) - begun)
        assert many.locator(".reset-zoom").is_visible()
        assert page.evaluate(REACHES_TOP) > 0
        many.locator(".reset-zoom").click()
        page.evaluate(TWO_FRAMES)
    zoom(page, box, 70, 200)  # without the extreme, the other points fill the plot
    page.wait_for_function(f"() => ({REACHES_TOP})() > 50")
    many.locator(".reset-zoom").click()
    canvas.focus()
    for key in "+++---":  # by keyboard
        begun = busy_s(session)
        page.keyboard.press(key)
        page.evaluate(TWO_FRAMES)
        taken.append(busy_s(session) - begun)
    assert max(taken) > 0.0005, "nothing was drawn"
    assert sorted(taken)[len(taken) // 2] < REDRAWN_S, taken

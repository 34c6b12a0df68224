"""A hundred thousand points: zooming stays quick, and no extreme is lost."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page

from tests.aggregates.web.browser.conftest import drawn
from tests.aggregates.web.server import Server

pytestmark = pytest.mark.browser
POINTS = 100_000


def test_zooming_in_100000_points_redraws_within_100_ms_and_keeps_extremes(charts: Server, page: Page) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    charts.database["zagg.many"].drop()
    charts.database["zagg.many"].insert_many(
        {
            "_id": f"{start + timedelta(minutes=i):%Y-%m-%dT%H:%M}",
            "value": 1000 if i == 54_321 else i % 10,
            "through": 1,
        }
        for i in range(POINTS)
    )
    page.goto(charts.url("aggregates/many/"))
    drawn(page, "", timeout_ms=30_000)
    taken = page.evaluate("""async () => {
        const { Plot } = await import("/static/zarkov/plot.js");
        const answer = await (await fetch("/api/v1/series/many/")).json();
        const holder = document.createElement("div");
        holder.style.cssText = "width:1000px;height:400px;position:relative";
        document.body.append(holder);
        const plot = new Plot(holder, {kind: "line", zone: "UTC", unit: "", label: "many"});
        plot.show(answer);
        const frame = () => new Promise(requestAnimationFrame);
        await frame();
        const {min, max} = plot.plot.scales.x;
        const times = [];
        for (let i = 1; i <= 15; i++) {
            const part = (max - min) * i / 40;
            const begin = performance.now();
            plot.plot.setScale("x", {min: min + part, max: max - part});
            await Promise.resolve();
            plot.plot.ctx.getImageData(0, 0, 1, 1);
            times.push(performance.now() - begin);
            await frame();
        }
        return {times, top: plot.plot.scales.y.max, count: plot.data[0].length};
    }""")
    assert taken["count"] == POINTS
    assert statistics.median(taken["times"]) < 100, taken["times"]
    assert taken["top"] > 1000  # the one extreme among them is in the picture

"""The time axis in browsers of any zone: the times of the chart's zone, from milliseconds to 10,000 years."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.support.web.charts import drawn
from tests.support.web.server import Server

pytestmark = pytest.mark.browser
HOUR, DAY = 3_600_000, 86_400_000
LENGTHS = [20, 5_000, 600_000, 4 * HOUR, 3 * DAY, 70 * DAY, 5 * 365 * DAY, 900 * 365 * DAY, 3_600_000 * DAY]
SHORTEST_PX = 69.5  # between ticks

DRAW = """async ([low, high, zone, width, kind]) => {
    const { Plot } = await import("/static/zarkov/plot.js");
    const holder = document.createElement("div");
    holder.style.cssText = `width:${width}px;height:300px`;
    document.body.append(holder);
    const plot = new Plot(holder, { kind, zone, unit: "", label: "one" });
    plot.show({ series: [{ label: "a", key: "a", field: "value", data: [[low, 1], [high, 2]] }], step: "hour" });
    await new Promise(requestAnimationFrame);
    const { _splits: ticks, _values: labels } = plot.plot.axes[0];
    const places = ticks.map((at) => plot.plot.valToPos(at, "x"));
    plot.destroy();
    holder.remove();
    return { labels, places };
}"""


@pytest.fixture
def draw(charts: Server, open_context: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that draws a range in a browser of a zone, and returns labels and places of the ticks."""

    def make(browser_zone: str) -> Callable[..., Any]:
        page = open_context(timezone_id=browser_zone)[0].new_page()
        page.goto(charts.url("charts/commits/"))
        drawn(page, "commits")
        return lambda *asked: page.evaluate(DRAW, list(asked))

    return make


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/Dublin", "Australia/Lord_Howe"])
def test_hours_of_the_chart_are_there_when_the_clocks_of_the_browser_change(
    draw: Callable[..., Any], zone: str
) -> None:
    drawing = draw(zone)
    begin = 1_774_742_400_000  # 2026-03-29T00:00Z, before Berlin and Dublin change
    hours = drawing(begin, begin + 4 * HOUR, "UTC", 500, "line")
    assert hours["labels"] == ["00:00\n29 Mar 2026", "01:00", "02:00", "03:00", "04:00"]
    changed = drawing(begin, begin + 4 * HOUR, "Europe/Dublin", 500, "line")
    assert changed["labels"] == ["00:00\n29 Mar 2026", "02:00", "03:00", "04:00", "05:00"]


def test_ranges_of_any_length_have_labels_that_do_not_touch(draw: Callable[..., Any]) -> None:
    drawing = draw("America/New_York")
    for width in (320, 700, 1600):
        for length in LENGTHS:
            begin = -62_135_596_800_000 if length > 10**13 else 1_774_742_400_000
            found = drawing(begin, begin + length, "Asia/Beirut", width, "bar")
            assert len(found["labels"]) >= 2 or width == 320, (length, width, found)
            assert found["labels"], (length, width)
            assert all(after - before > SHORTEST_PX for before, after in pairwise(found["places"])), (length, found)

"""Gaps in charts: what stands between two of them is drawn, and they can be told from 0."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.web.charts import drawn
from tests.support.web.server import Server

pytestmark = pytest.mark.browser

# Draw one plot and count the columns of its canvas that have a pixel in the color of the line.
DRAW = """async ([lines, kind, small]) => {
    const { Plot } = await import("/static/zarkov/plot.js");
    const holder = document.createElement("div");
    holder.style.cssText = "width:900px;height:300px";
    document.body.append(holder);
    const plot = new Plot(holder, { kind, small, zone: "UTC", unit: "", label: "one" });
    const begun = performance.now();
    plot.show({
        series: lines.map((ys, n) => ({
            label: `${n}`, key: `${n}`, field: "value",
            data: ys.map((y, i) => [1704067200000 + i * 3600000, y]),
        })),
        step: "hour",
    });
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const took = performance.now() - begun;
    const u = plot.plot;
    const paint = (i) => u.series[i].stroke(u, i).slice(1).match(/../g).map((part) => parseInt(part, 16));
    const { left, top, width, height } = u.bbox;
    const shown = u.data.slice(1).map((ys, n) => {
        const rgb = paint(n + 1);
        const { data } = u.ctx.getImageData(left, top, width, height);
        const columns = new Set();
        for (let at = 0; at < data.length; at += 4) {
            if (data[at + 3] > 150 && rgb.every((part, c) => Math.abs(data[at + c] - part) < 40)) {
                columns.add((at / 4) % width);
            }
        }
        const points = ys.map((y, i) => {
            if (y === null || y === undefined) return null;
            const x = Math.round(u.valToPos(u.data[0][i], "x", true) - left);
            return [-2, -1, 0, 1, 2].some((by) => columns.has(x + by));
        });
        return { columns: columns.size, points };
    });
    const stacked = u.data.slice(1).map((ys) => [...ys]);
    plot.destroy();
    holder.remove();
    return { shown, took, stacked };
}"""


def draw(page: Page, lines: list[list[float | None]], kind: str, *, small: bool = False) -> Any:
    return page.evaluate(DRAW, [lines, kind, small])


@pytest.fixture
def chart_page(charts: Server, page: Page) -> Page:
    """Return a page on which plots can be drawn."""
    page.goto(charts.url("charts/commits/"))
    drawn(page, "commits")
    return page


@pytest.mark.parametrize("kind", ["line", "area", "stacked"])
@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("count", [6, 48, 200])
def test_every_second_value_alone_between_gaps_is_drawn(chart_page: Page, kind: str, small: bool, count: int) -> None:
    values = [None if hour % 2 else 20.0 + hour % 5 for hour in range(count)]
    (line,) = draw(chart_page, [values], kind, small=small)["shown"]
    assert [seen for seen in line["points"] if seen is not None] == [True] * (count // 2)


@pytest.mark.parametrize("place", [0, 30, 59])
def test_one_lone_value_among_lines_is_drawn(chart_page: Page, place: int) -> None:
    values: list[float | None] = [None if abs(hour - place) in (1, 2) else 5.0 for hour in range(60)]
    (line,) = draw(chart_page, [values], "line")["shown"]
    assert line["points"][place] is True
    assert all(seen is not False for seen in line["points"])


def test_lines_without_gaps_have_no_dots_and_many_lone_values_are_drawn_at_once(chart_page: Page) -> None:
    whole = draw(chart_page, [[5.0] * 60], "line")["shown"][0]["columns"]
    assert whole > 700
    many = draw(chart_page, [[None if at % 2 else float(at % 7) for at in range(100_000)]], "line")
    assert many["shown"][0]["columns"] > 700
    assert many["took"] < 2_000


def test_a_gap_in_stacked_areas_is_not_0(chart_page: Page) -> None:
    lines: list[list[float | None]] = [[1, None, None, 0, 4], [1, None, 3, 0, None]]
    assert draw(chart_page, lines, "stacked")["stacked"] == [[1, None, 0, 0, 4], [2, None, 3, 0, 4]]

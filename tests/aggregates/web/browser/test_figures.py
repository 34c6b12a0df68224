"""Charts in a browser: each kind, its legend, mouse and keyboard, and what is said beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.web.charts import drawn
from tests.support.web.server import Server, write_aggregate

pytestmark = [pytest.mark.browser, pytest.mark.early]


@pytest.mark.parametrize("slug", ["commits", "lines", "area", "bars", "kinds", "table", "number"])
def test_each_kind_of_chart_is_drawn(charts: Server, page: Page, slug: str) -> None:
    page.goto(charts.url(f"charts/{slug}/"))
    figure = drawn(page, slug)
    inside = {"kinds": ".bars li", "table": "tbody tr", "number": ".big-number"}.get(slug, "canvas")
    expect(figure.locator(inside).first).to_be_visible()
    if inside == "canvas":
        painted = """canvas => {
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const colours = new Set();
            for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) colours.add(data[i] + "," + data[i + 2]);
            return colours.size;
        }"""
        page.wait_for_function(f"() => ({painted})(document.querySelector('.canvas canvas')) > 3")


def test_a_chart_of_a_future_aggregate_shows_it_once_it_exists(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/late/"))
    expect(page.get_by_text("No numbers in this range yet.")).to_be_visible()
    write_aggregate(charts.database, "nothing_yet", {"2024-01-01": 1, "2024-01-02": 2}, through=1)
    charts.announce("nothing_yet", 1)
    expect(page.locator(".canvas canvas")).to_be_visible()
    expect(page.get_by_text("No numbers in this range yet.")).to_have_count(0)


def test_the_legend_hides_and_shows_series(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/commits/"))
    figure = drawn(page, "commits")
    button = figure.get_by_role("button", name="gevent")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    canvas = figure.locator(".canvas")
    canvas.hover(position={"x": 400, "y": 100})
    expect(figure.locator(".tooltip")).to_contain_text("celery")
    expect(figure.locator(".tooltip")).not_to_contain_text("gevent")
    button.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")


def test_a_chart_is_read_and_zoomed_by_keyboard(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/lines/"))
    figure = drawn(page, "lines")
    canvas = figure.locator(".canvas")
    canvas.focus()
    page.keyboard.press("Home")
    expect(figure.locator(".announce")).to_have_text("January 2020: insertions 0, deletions 0")
    page.keyboard.press("ArrowRight")
    expect(figure.locator(".announce")).to_have_text("February 2020: insertions 7, deletions 5")
    page.keyboard.press("+")
    expect(figure.get_by_role("button", name="Whole range")).to_be_visible()
    canvas.focus()
    page.keyboard.press("Escape")
    expect(figure.get_by_role("button", name="Whole range")).to_be_hidden()


def test_dragging_zooms_and_an_update_keeps_the_zoom(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/area/"))
    figure = drawn(page, "area")
    box = figure.locator(".canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 600, box["y"] + 100, steps=4)
    page.mouse.up()
    whole = figure.get_by_role("button", name="Whole range")
    expect(whole).to_be_visible()
    write_aggregate(charts.database, "commits", {"celery/2025-02": 5}, through=62)
    charts.announce("commits", 62)
    drawn(page, "area", 2)
    expect(whole).to_be_visible()
    whole.click()
    expect(whole).to_be_hidden()


# Replaces the browser's EventSource: the test sends its messages.
FAKE_STREAM = """
window.EventSource = class extends EventTarget {
  constructor() { super(); window.stream = this; setTimeout(() => this.onopen()); }
  close() {}
};
window.send = (kind, data) => window.stream.dispatchEvent(new MessageEvent(kind, { data: JSON.stringify(data) }));
"""


def state(*names: str) -> dict[str, Any]:
    """Return an answer of `series/`."""
    start_ms = 1_704_067_200_000
    lines = [
        {"label": name, "key": name, "field": "value", "data": [[start_ms + day * 86_400_000, day] for day in range(9)]}
        for name in names
    ]
    return {"series": lines, "step": "day", "omitted": 0, "through": 1, "complete_through": None}


@pytest.fixture
def fake_stream_page(page: Page, charts: Server) -> Page:
    """Return the page of a chart whose stream the test sends."""
    page.add_init_script(FAKE_STREAM)
    page.goto(charts.url("charts/commits/"))
    expect(page.locator(".live-status")).to_have_text("Live")
    return page


def test_a_page_reports_data_that_cannot_be_read_until_they_can(fake_stream_page: Page) -> None:
    status = fake_stream_page.locator(".live-status")
    fake_stream_page.evaluate("state => send('series:commits', state)", state("a"))
    drawn(fake_stream_page, "commits")
    fake_stream_page.evaluate("send('problem:commits', {error: {message: 'MongoDB does not answer'}})")
    expect(status).to_contain_text("Not up to date")
    expect(fake_stream_page.locator(".canvas canvas")).to_be_visible()  # the chart stays
    fake_stream_page.evaluate("state => send('series:commits', state)", state("a"))
    expect(status).to_have_text("Live")


def test_series_keep_their_colours_when_others_appear(fake_stream_page: Page) -> None:
    def colour(name: str) -> str:
        dot = fake_stream_page.get_by_role("button", name=name, exact=True).locator(".dot")
        return str(dot.evaluate("dot => getComputedStyle(dot).color + dot.className"))

    fake_stream_page.evaluate("state => send('series:commits', state)", state("bee", "cat"))
    drawn(fake_stream_page, "commits")
    before = colour("bee"), colour("cat")
    fake_stream_page.evaluate("state => send('series:commits', state)", state("ant", "bee", "cat"))
    drawn(fake_stream_page, "commits", 2)
    assert (colour("bee"), colour("cat")) == before
    assert colour("ant") not in before
    many = [f"n{number}" for number in range(12)]
    fake_stream_page.evaluate("state => send('series:commits', state)", state(*many))
    drawn(fake_stream_page, "commits", 3)
    assert len({colour(name) for name in many}) == len(many)


def test_small_numbers_are_not_shown_as_0(fake_stream_page: Page) -> None:
    written = """async () => {
        const { compact, exact } = await import("/static/zarkov/format.js");
        return [0, 1e-7, -0.00025, 0.05, 0.123456, 1234.5, 2.5e15].map((n) => [exact(n, "s"), compact(n)]);
    }"""
    assert fake_stream_page.evaluate(written) == [
        ["0 s", "0"], ["1E-7 s", "1E-7"], ["-0.00025 s", "-0.00025"], ["0.05 s", "0.05"], ["0.123 s", "0.123"],
        ["1,234.5 s", "1,234.5"], ["2,500,000,000,000,000 s", "2500T"],
    ]  # fmt: skip


def test_what_is_left_out_of_a_picture_is_said_below_it(fake_stream_page: Page) -> None:
    note = fake_stream_page.locator("figure[data-name=commits] .left-out")
    fake_stream_page.evaluate("state => send('series:commits', state)", {**state("a"), "outliers": 1, "undated": 2})
    expect(note).to_have_text(
        "Not shown: 1 value far from the others or between two periods; 2 keys that are no dates."
    )
    fake_stream_page.evaluate("state => send('series:commits', state)", {**state("a"), "outliers": 0})
    expect(note).to_have_count(0)


def test_wrong_dates_do_not_take_the_picture_away(charts: Server, page: Page) -> None:
    today = datetime.now(UTC).date()
    days = {f"{today - timedelta(days=ago)}": ago for ago in range(20)}
    write_aggregate(charts.database, "dated", {**days, "1970-01-01": 9, "9999-12-31": 9, "9999-12-30": 9})
    charts.django("""
        from aggregates.models import Chart
        Chart.objects.get_or_create(slug="dated", title="Dated", aggregate="dated", kind="line")
    """)
    odd = "1 value far from the others or between two periods"
    for address, name, left_out in (
        ("aggregates/dated/", "", f"Not shown: {odd}; 2 values after now."),
        ("aggregates/dated/?from=-30d", "", "Not shown: 2 values after now."),
        ("charts/dated/", "dated", f"Not shown: {odd}; 2 values after now."),
    ):
        page.goto(charts.url(address))
        figure = drawn(page, name)
        expect(figure.locator(".left-out")).to_have_text(left_out)
        figure.get_by_text("Data as a table").click()
        expect(figure.locator("tbody tr")).to_have_count(20)


def test_times_in_charts_name_their_zone_and_days_do_not(charts: Server, page: Page) -> None:
    write_aggregate(charts.database, "zoned", {f"2024-07-01T{hour:02}:00": hour for hour in range(12)})
    charts.django("""
        from aggregates.models import Chart
        for kind in ("line", "number"):
            Chart.objects.create(
                slug=f"zoned-{kind}", title="Zoned", aggregate="zoned", kind=kind, zone="Asia/Kathmandu"
            )
    """)
    page.goto(charts.url("charts/zoned-line/"))
    figure = drawn(page, "zoned-line")
    figure.get_by_text("Data as a table").click()
    expect(figure.locator("thead th").first).to_have_text("Period (Asia/Kathmandu)")
    figure.locator(".u-over").hover()
    expect(figure.locator(".tooltip strong")).to_contain_text("Asia/Kathmandu")
    page.goto(charts.url("charts/zoned-number/"))
    expect(drawn(page, "zoned-number").locator(".trend")).to_contain_text("Jul 1, 2024, 04:45 PM Asia/Kathmandu")
    page.goto(charts.url("charts/lines/"))
    figure = drawn(page, "lines")
    figure.get_by_text("Data as a table").click()
    expect(figure.locator("thead th").first).to_have_text("Period")


def test_lengths_are_read_and_long_periods_are_named_in_the_zone_of_their_keys(fake_stream_page: Page) -> None:
    written = """async () => {
        const { moment, stepMs } = await import("/static/zarkov/format.js");
        const { zoneOf } = await import("/static/zarkov/series.js");
        const ms = Date.UTC(2011, 6, 1);
        return [
            ["day", "PT5M", "PT6H", "PT30S", "P10D", "P3M", "P2Y", null].map(stepMs),
            moment(ms, "day", zoneOf({ key_zone: "UTC" }, "America/New_York")),
            ["P10D", "PT6H", "PT5M", "P3M", "P2Y"].map((step) => moment(ms, step, zoneOf({}, "UTC"))),
        ];
    }"""
    assert fake_stream_page.evaluate(written) == [
        [86_400_000, 300_000, 21_600_000, 30_000, 864_000_000, 3 * 31 * 86_400_000, 730 * 86_400_000, 0],
        "Fri, Jul 1, 2011",
        ["Fri, Jul 1, 2011", "Jul 1, 2011, 12:00 AM", "Jul 1, 2011, 12:00 AM", "July 2011", "2011"],
    ]


def test_a_single_point_is_in_the_middle_of_its_period(fake_stream_page: Page) -> None:
    shown = """async () => {
        const { Plot } = await import("/static/zarkov/plot.js");
        const holder = document.createElement("div");
        holder.style.cssText = "width:800px;height:300px";
        document.body.append(holder);
        const plot = new Plot(holder, { kind: "line", zone: "UTC", unit: "", label: "one" });
        const data = [[1704067200000, 42]];
        plot.show({ series: [{ label: "a", key: "a", field: "value", data }], step: "day" });
        await new Promise(requestAnimationFrame);
        const { min, max } = plot.plot.scales.x;
        return [min, max];
    }"""
    assert fake_stream_page.evaluate(shown) == [1_704_067_200_000 - 86_400_000, 1_704_067_200_000 + 86_400_000]

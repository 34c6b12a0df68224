"""Pages in a browser: live updates, mouse and keyboard, wide and narrow, dark and light."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.durations import assert_within
from tests.support.web.charts import LONG_NAME, drawn
from tests.support.web.embedding_site import embed_link
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


def test_another_range_can_be_chosen(charts: Server, page: Page) -> None:
    month = time.strftime("%Y-%m")
    write_aggregate(charts.database, "commits", {f"gevent/{month}": 77}, through=63)
    page.goto(charts.url("charts/commits/"))
    figure = drawn(page, "commits")
    figure.get_by_text("Data as a table").click()
    page.get_by_role("button", name="1 y").click()
    expect(figure.locator("tbody tr").first).to_contain_text("77")
    expect(page.get_by_role("button", name="1 y")).to_have_attribute("aria-pressed", "true")


def test_the_chosen_range_is_in_the_address(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/commits/"))
    drawn(page, "commits")
    page.get_by_role("button", name="5 y").click()
    page.wait_for_url("**/charts/commits/?from=-5y")
    with page.expect_request(lambda request: "live/charts" in request.url and "from=-5y" in request.url):
        page.reload()
    expect(page.get_by_role("button", name="5 y")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="All")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="All").click()
    page.wait_for_url("**/charts/commits/")


@pytest.mark.parametrize("path", ["charts/lines/", "aggregates/lines/", "dashboards/all/", "embed"])
def test_a_page_shows_the_range_of_its_address(charts: Server, page: Page, path: str) -> None:
    if path == "embed":
        path, _ = embed_link(charts, range_adjustable=True)
    name = "" if path.startswith("aggregates") else "commits" if path.startswith("embed") else "lines"
    with page.expect_request(lambda request: "live/" in request.url) as asked:
        page.goto(charts.url(f"{path}?from=2021-03&to=2021-05&tz=Asia/Tokyo"))
    assert {"from=2021-03", "to=2021-05", "tz=Asia%2FTokyo"} <= set(asked.value.url.partition("?")[2].split("&"))
    figure = drawn(page, name)
    expect(page.locator(".ranges .chosen")).to_have_text("2021-03 – 2021-05, Asia/Tokyo")
    expect(page.locator(".ranges [aria-pressed=true]")).to_have_count(0)
    figure.get_by_text("Data as a table").click()
    expect(figure.locator("tbody tr")).to_have_count(3)
    page.get_by_role("button", name="All").click()
    page.wait_for_url(f"**/{path}")
    expect(figure.locator("tbody tr")).not_to_have_count(3)
    expect(page.locator(".ranges .chosen")).to_have_count(0)
    expect(page.get_by_role("button", name="All")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize(
    "path", ["charts/commits/", "charts/commits/?from=-1y", "aggregates/lines/", "dashboards/all/"]
)
def test_a_click_on_the_range_that_is_shown_keeps_the_charts(charts: Server, page: Page, path: str) -> None:
    page.goto(charts.url(path))
    drawn = page.locator("figure.chart[data-drawn]")
    expect(page.locator(".live-status")).to_have_text("Live")
    for _ in range(2):
        with page.expect_request(lambda request: "live" in request.url):
            page.locator(".ranges button[aria-pressed=true]").click()
        expect(page.locator(".live-status")).to_have_text("Live")
        expect(drawn.locator("canvas, table, .number, .empty").first).to_be_visible()


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("from=2024-10", "from 2024-10"),
        ("to=2020-02", "until 2020-02"),
        ("tz=Asia/Tokyo", "Asia/Tokyo"),
        ("tz=Etc/GMT+5", "Etc/GMT+5"),
        ("from=-5y&tz=UTC", "from -5y, UTC"),
        ("from=2011-07-01T00:00+02:00&to=now", "2011-07-01T00:00 02:00 – now"),
    ],
)
def test_a_range_without_a_button_is_shown_in_words(charts: Server, page: Page, query: str, shown: str) -> None:
    page.goto(charts.url(f"charts/commits/?{query}"))
    expect(page.locator(".live-status")).to_have_text("Live")
    expect(page.locator(".ranges .chosen")).to_have_text(shown)
    page.get_by_role("button", name="1 y").click()
    page.wait_for_url("**/charts/commits/?from=-1y")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from=yesterday", "'yesterday' is not a point in time"),
        ("from=2021&to=2020", "2021"),
        ("tz=Mars", "tz = 'Mars' is not a time zone"),
    ],
)
def test_a_page_says_what_is_wrong_with_the_range_of_its_address(
    open_context: Any, charts: Server, query: str, message: str
) -> None:
    context, watched = open_context()
    watched.expected = ("400",)
    page = context.new_page()
    page.goto(charts.url(f"charts/commits/?{query}"))
    expect(page.get_by_role("alert")).to_contain_text(message)
    page.get_by_role("button", name="All").click()
    drawn(page, "commits")
    expect(page.get_by_role("alert")).to_have_count(0)


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

"""Charts of every number that a double or 64 bits can hold: drawn at once, with an axis that can be read."""

from __future__ import annotations

import math
import time

import pytest
from bson import Decimal128
from playwright.sync_api import Page, expect

from tests.support.durations import assert_within
from tests.support.web.charts import drawn
from tests.support.web.server import Server, write_aggregate

pytestmark = pytest.mark.browser
LOWEST, HIGHEST = -(2**63), 2**63 - 1
LARGEST, TINIEST = 1.7976931348623157e308, 5e-324
DRAWN_S = 2.0
VALUES: dict[str, list[float | None]] = {
    "the lowest of 64 bits": [LOWEST],
    "the highest of 64 bits": [HIGHEST, HIGHEST],
    "all of 64 bits": [LOWEST, HIGHEST],
    "neighbours in 64 bits": [LOWEST, LOWEST + 1, LOWEST + 2048],
    "large": [1e308, 9e307],
    "the largest": [LARGEST, LARGEST],
    "minus the largest": [-LARGEST],
    "more apart than a double": [-LARGEST, LARGEST],
    "sums past a double": [LARGEST, LARGEST, 1],
    "the smallest": [TINIEST],
    "the smallest two": [TINIEST, 2 * TINIEST],
    "minus the smallest": [-TINIEST, -TINIEST],
    "small": [1e-300, 3e-300],
    "small beside large": [TINIEST, LARGEST],
    "flat and large": [1e16, 1e16, 1e16],
    "flat and below 0": [-1e16, -1e16],
    "flat and small": [-1e-7, -1e-7],
    "all 0": [0, 0, 0],
    "minus 0": [-0.0, 0],
    "one point": [42],
    "one below 0": [-42],
    "a small spread": [1e15, 1e15 + 0.125],
    "a small spread below 0": [-1e15, -1e15 - 0.125],
    "one step of a double": [-1.0, -1.0000000000000002],
    "five figures": [-12345, -12360],
    "around 0": [-3, 4],
    "no numbers": [None, None],
    "one number": [None, 7, None],
    "a fraction": [0.1, 0.25, 0.3],
}

DRAW = """async ([values, kind]) => {
    const { Plot } = await import("/static/zarkov/plot.js");
    const holder = document.createElement("div");
    holder.style.cssText = "width:800px;height:300px";
    document.body.append(holder);
    const plot = new Plot(holder, { kind, zone: "UTC", unit: "", label: "one" });
    const data = values.map((y, i) => [1704067200000 + i * 86400000, y]);
    const line = (key) => ({ label: key, key, field: "value", data });
    const begun = performance.now();
    plot.show({ series: kind === "stacked" ? [line("a"), line("b")] : [line("a")], step: "day" });
    await new Promise(requestAnimationFrame);
    const took = performance.now() - begun;
    const u = plot.plot;
    const { min, max } = u.scales.y;
    const places = u.data.slice(1).flatMap((ys) => [...ys].filter((y) => y != null).map((y) => u.valToPos(y, "y")));
    const zero = u.valToPos(0, "y");
    const height = u.bbox.height / devicePixelRatio;
    const labels = u.axes[1]._values;
    plot.destroy();
    holder.remove();
    return { took, min, max, places, zero, height, labels };
}"""


@pytest.mark.parametrize("kind", ["line", "area", "stacked", "bar"])
def test_every_value_is_inside_an_axis_whose_labels_differ(charts: Server, page: Page, kind: str) -> None:
    page.goto(charts.url("charts/commits/"))
    drawn(page, "commits")
    for name, values in VALUES.items():
        found = page.evaluate(DRAW, [values, kind])
        what = f"{name}, {kind}: {found}"
        assert found["took"] < DRAWN_S * 1000, what
        assert found["min"] < found["max"] and math.isfinite(found["max"] - found["min"]), what
        lines = 2 if kind == "stacked" else 1
        assert len(found["places"]) == lines * sum(y is not None for y in values), what
        assert all(-0.5 <= place <= found["height"] + 0.5 for place in found["places"]), what
        assert 2 <= len(found["labels"]) <= 8, what
        assert len(set(found["labels"])) == len(found["labels"]), what
        assert all(len(label) <= 26 for label in found["labels"]), what
        if kind != "line":
            assert -0.5 <= found["zero"] <= found["height"] + 0.5, what


def test_labels_of_usual_ranges_are_short_and_round(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/commits/"))
    drawn(page, "commits")

    def labels(*values: float) -> list[str]:
        return list(page.evaluate(DRAW, [list(values), "line"])["labels"])

    assert labels(3, 4) == ["0", "1", "2", "3", "4"]
    assert labels(1000, 250) == ["0", "200", "400", "600", "800", "1,000"]
    assert labels(LOWEST, HIGHEST) == ["-1E19", "-5E18", "0", "5E18", "1E19"]
    assert labels(-12345, -12360) == ["-12,360", "-12,355", "-12,350", "-12,345"]
    assert labels(1e308) == ["0", "2E307", "4E307", "6E307", "8E307", "1E308"]
    assert labels(LARGEST) == ["0", "5E307", "1E308", "1.5E308"]
    assert labels(-LARGEST) == ["-1E308", "0"]
    assert labels(LARGEST, -LARGEST, 3) == ["-1E308", "0", "1E308"]
    assert labels(1.2e308, -1.2e308) == ["-1E308", "-5E307", "0", "5E307", "1E308"]
    assert labels(0.1, 0.25) == ["0", "0.05", "0.1", "0.15", "0.2", "0.25"]


@pytest.mark.parametrize("kind", ["line", "area", "bar", "stacked", "number", "table"])
def test_a_page_with_extreme_values_is_drawn_at_once_and_shows_them_exactly(
    charts: Server, page: Page, kind: str
) -> None:
    values = {"a": LOWEST, "b": HIGHEST, "c": Decimal128("9007199254740993"), "d": LARGEST, "e": math.nan}
    write_aggregate(charts.database, "extreme", {"2024-01-01": values, "2024-01-02": values, "2024-01-03": {"a": 1}})
    charts.django(f"""
        from aggregates.models import Chart
        Chart.objects.get_or_create(slug="extreme-{kind}", title="Extreme", aggregate="extreme", kind="{kind}")
    """)

    def opened() -> float:
        begun = time.monotonic()
        page.goto(charts.url(f"charts/extreme-{kind}/"))
        drawn(page, f"extreme-{kind}")
        return time.monotonic() - begun

    assert_within(DRAWN_S, opened, tries=3)
    figure = drawn(page, f"extreme-{kind}")
    if kind != "table":
        figure.get_by_text("Data as a table").click()
    cells = figure.locator("tbody tr").last.locator("td")
    expect(cells).to_have_text(
        [
            "-9,223,372,036,854,775,808",
            "9,223,372,036,854,775,807",
            "9,007,199,254,740,993",
            "1.79769313486232E308",
            "–",
        ]
    )


def test_bars_of_keys_rank_exact_numbers_and_put_what_is_none_last(charts: Server, page: Page) -> None:
    values = {"nan": math.nan, "low": LOWEST, "high": HIGHEST, "next": HIGHEST - 1, "tiny": TINIEST, "zero": 0}
    write_aggregate(charts.database, "extreme_keys", values)
    page.goto(charts.url("aggregates/extreme_keys/"))
    figure = drawn(page)
    expect(figure.locator(".bar-name")).to_have_text(["high", "next", "tiny", "zero", "low", "nan"])
    expect(figure.locator(".bar-value").first).to_have_text("9,223,372,036,854,775,807")
    expect(figure.locator(".bar-value").last).to_have_text("–")


def test_numbers_as_keys_are_no_times(charts: Server, page: Page) -> None:
    write_aggregate(charts.database, "numbered", {hour: hour * 10 for hour in (1, 2, 10**17)})
    page.goto(charts.url("aggregates/numbered/"))
    expect(drawn(page).locator(".bar-name")).to_have_text(["100000000000000000", "2", "1"])


def test_the_single_number_shows_its_digits_when_pointed_at(charts: Server, page: Page) -> None:
    write_aggregate(charts.database, "commits", {"big/2024-01": HIGHEST - 1, "big/2024-02": HIGHEST}, through=60)
    charts.django("""
        from aggregates.models import Chart
        Chart.objects.get_or_create(slug="big", title="Big", aggregate="commits", kind="number", prefix="big/")
    """)
    page.goto(charts.url("charts/big/"))
    drawn(page, "big")
    number = page.locator(".big-number")
    expect(number).to_have_text("9.22E18")
    expect(number).to_have_attribute("title", "9,223,372,036,854,775,807")
    expect(page.locator(".trend")).to_contain_text("unchanged")
    charts.database["zagg.commits"].delete_many({"_id": {"$regex": "^big/"}})


def test_minus_0_is_0(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/commits/"))
    drawn(page, "commits")
    shown = page.evaluate("""async () => {
        const { compact, digits, exact } = await import("/static/zarkov/format.js");
        return [compact(-0), exact(-0, "hits"), digits(-0, 3), compact(-0.25), exact(-1e-7), compact(-12)];
    }""")
    assert shown == ["0", "0 hits", "0", "-0.25", "-1E-7", "-12"]


def test_zooming_by_keyboard_ends_before_the_axis_does(charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/lines/"))
    figure = drawn(page, "lines")
    figure.locator(".canvas").focus()
    page.keyboard.press("Home")
    for key in "+-":
        for _ in range(80):
            page.keyboard.press(key)
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    expect(figure.locator(".announce")).to_have_text("January 2020: insertions 0, deletions 0")


def test_long_events_of_the_overview_are_exact(charts: Server, page: Page) -> None:
    page.goto(charts.url())
    expect(page.locator(".live-status")).to_have_text("Live")
    charts.post_events({"type": "exact", "context": {"plain": HIGHEST, "nested": {"n": LOWEST}}})
    row = page.locator("#latest li", has_text="exact")
    expect(row).to_contain_text(f'plain: {HIGHEST}  ·  nested: {{"n":{LOWEST}}}')

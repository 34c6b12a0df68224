"""Zones of keys that a server knows and browsers do not: charts are drawn, and say in which zone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from aggregates.keys.key_time import KeyTime
from tests.support.web.charts import drawn
from tests.support.web.server import Server, write_aggregate

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("localtime", "UTC"),
        ("right/Europe/Berlin", "Europe/Berlin"),
        ("+00:53:28", "+00:53"),
        ("-00:19:32", "-00:20"),
        ("Asia/Tokyo", ""),
    ],
)
def test_charts_of_keys_in_zones_that_browsers_do_not_know_are_drawn(
    zone: str, shown: str, charts: Server, page: Page
) -> None:
    days = {f"2024-01-{day:02d}": day for day in range(1, 20)}
    name = "zone_" + "".join(letter if letter.isalnum() else "_" for letter in zone)
    write_aggregate(charts.database, name, days, key_time=KeyTime(zone, "day", 19))
    page.goto(charts.url(f"aggregates/{name}/"))
    figure = drawn(page, timeout_ms=20_000)
    assert figure.locator("canvas").evaluate(
        "each => each.getContext('2d').getImageData(0, 0, each.width, each.height).data.some((byte) => byte)"
    )
    note = f"Times are shown in {shown}: browsers do not know the time zone {zone}."
    assert (note in figure.inner_text()) == ("Times are shown" in figure.inner_text()) == bool(shown)


FORMAT = """async ([zone, old]) => {
    const Format = Intl.DateTimeFormat;
    if (old) {
        Intl.DateTimeFormat = function (locale, options) {
            if (/^[+-]/.test(options?.timeZone ?? "")) throw new RangeError("Invalid time zone specified");
            return new Format(locale, options);
        };
    }
    try {
        const { readableZone, zoneNote } = await import("/static/zarkov/zone.js");
        const { moment } = await import("/static/zarkov/format.js");
        return [readableZone(zone), zoneNote(zone), moment(1704067200000, "minute", zone)];
    } finally {
        Intl.DateTimeFormat = Format;
    }
}"""


@pytest.mark.parametrize(
    ("zone", "shown"),
    [("+05:00", "Etc/GMT-5"), ("-03:00", "Etc/GMT+3"), ("+05:30", "UTC"), ("+23:59:59", "UTC"), ("Europe/Berlin", "")],
)
def test_a_browser_that_knows_no_offsets_falls_back(zone: str, shown: str, charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/commits/"))
    readable, note, text = page.evaluate(FORMAT, [zone, True])
    assert readable == (shown or zone)
    assert bool(note) == bool(shown)
    assert "2024" in text or "2023" in text


@pytest.mark.parametrize("zone", ["", None, "Mars/Base", "+", "+99:99", "posix/", "<b>", "+23:59:59"])
def test_no_zone_stops_a_page(zone: str | None, charts: Server, page: Page) -> None:
    page.goto(charts.url("charts/commits/"))
    readable, _, text = page.evaluate(FORMAT, [zone, False])
    assert readable == "UTC"
    assert "2024" in text

"""Fields of charts that are checked when they are saved."""

from __future__ import annotations

import pytest

from aggregates.models.chart import Chart
from aggregates.web.series.chart_query import chart_errors


@pytest.mark.parametrize(
    ("zone", "advice"),
    [
        ("Mars/Base", "such as UTC or Europe/Berlin"),
        ("localtime", "such as UTC or Europe/Berlin"),
        ("posix/Asia/Tokyo", "use Asia/Tokyo"),
        ("+00:53:28", "such as UTC or Europe/Berlin"),
    ],
)
def test_a_zone_that_browsers_do_not_know_is_refused_and_never_used(zone: str, advice: str) -> None:
    chart = Chart(slug="c", title="C", aggregate="x", zone=zone)
    assert f"{zone!r} is not a time zone" in chart_errors(chart)["zone"]
    assert advice in chart_errors(chart)["zone"]
    assert chart.effective_zone == "UTC"


@pytest.mark.parametrize("zone", ["", "Europe/Berlin", "Etc/GMT+5"])
def test_a_zone_of_the_database_is_accepted(zone: str) -> None:
    assert "zone" not in chart_errors(Chart(slug="c", title="C", aggregate="x", zone=zone))

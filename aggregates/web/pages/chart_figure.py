"""Build the template context of figures, which show charts."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from aggregates.models.chart import Chart

_RELATIVE = re.compile(r"-(\d+)([a-z]+)\Z")


def context(chart: Chart, *, large: bool = False) -> dict[str, Any]:
    """Return the context of `zarkov/figure.html` for a chart."""
    return {
        "name": chart.slug,
        "kind": chart.kind,
        "zone": chart.effective_zone,
        "unit": chart.unit,
        "title": chart.title,
        "description": chart.description,
        "url": chart.get_absolute_url(),
        "size": "large" if large else "",
        "wide": large or getattr(chart, "wide", False),
    }


def contexts(charts: list[Chart]) -> list[dict[str, Any]]:
    """Return the contexts of charts on one page, in order. A half-width chart alone in its row becomes wide."""
    shown = [context(chart) for chart in charts]
    left: dict[str, Any] | None = None  # a half-width chart with nothing beside it yet
    for item in shown:
        if item["wide"]:
            _widen(left)
            left = None
        else:
            left = item if left is None else None
    _widen(left)
    return shown


def _widen(item: dict[str, Any] | None) -> None:
    if item is not None:
        item["wide"] = True


def stream_url(path: str, charts: list[Chart]) -> str:
    """Return the address of the stream that feeds these charts."""
    return f"{path}?{urlencode([('chart', chart.slug) for chart in charts])}"


def range_button_text(charts: list[Chart]) -> str:
    """Return the button text for the charts' own range; empty if they show everything."""
    starts = {chart.start for chart in charts}
    if starts == {""}:
        return ""
    start = starts.pop() if len(starts) == 1 else ""
    relative = _RELATIVE.match(start)
    return f"{relative[1]} {relative[2]}" if relative else "Default"

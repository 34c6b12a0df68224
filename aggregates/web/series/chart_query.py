"""Turn a stored chart into a series query, and check that the query is valid."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils import timezone

from aggregates.exceptions import TimeTextError
from aggregates.models.chart import Chart
from aggregates.time_reader import read_time
from aggregates.web.exceptions import WebError
from aggregates.web.series.query import SeriesQuery, collection_name
from aggregates.web.series.time_span import read_span
from ingest.time_zone import is_zone, zone_advice


def chart_query(chart: Chart, start: str | None = None, end: str | None = None, zone: str | None = None) -> SeriesQuery:
    """Return the series query of `chart`; a viewer's own range and zone override the chart's.

    An open range ends now: an event dated years ahead would squeeze everything else to one side. So would one of 1970;
    outliers are left out, with a fill and without, but for tables, which show as much with them.
    """
    bulk = not chart.fill and chart.kind != Chart.Kind.TABLE
    return SeriesQuery(
        name=chart.aggregate,
        fields=chart.field_list(),
        prefix=chart.prefix,
        start=chart.start if start is None else start,
        end=(chart.end if end is None else end) or ("" if bulk else "now"),  # a bulk ends now and counts what is later
        zone=zone or chart.effective_zone,
        fill=chart.fill,  # type: ignore[arg-type]
        bulk=bulk,
        limit=chart.series_limit,
    )


def chart_errors(chart: Chart) -> dict[str, str]:
    """Return a message by field for each invalid name, range or zone."""
    faults: dict[str, str] = {}
    try:
        if collection_name(chart.aggregate) is None:
            faults["aggregate"] = f"{chart.aggregate!r} cannot be the name of an aggregate"
    except WebError as error:
        faults["aggregate"] = error.message
    faults |= _range_errors(chart)
    if chart.zone and not is_zone(chart.zone):
        faults["zone"] = f"{chart.zone!r} is not a time zone: use {zone_advice(chart.zone)}"
    return faults


def _range_errors(chart: Chart) -> dict[str, str]:
    faults: dict[str, str] = {}
    now, zone = timezone.now(), chart.effective_zone
    for name in ("start", "end"):
        text = getattr(chart, name)
        try:
            if text:
                read_time(text, zone, now)
        except TimeTextError as error:
            faults[name] = str(error)
    try:
        if not faults:
            read_span(chart.start, chart.end or "now", zone, now)
    except WebError as error:
        faults["start"] = error.message
    return faults


class CheckedChartForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that shows the faults of a chart next to their fields."""

    class Meta:
        model = Chart
        fields: Any = "__all__"

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        for name, message in chart_errors(self.instance).items():
            self.add_error(name if name in self.fields else None, message)

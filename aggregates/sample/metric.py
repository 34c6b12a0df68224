"""The aggregates, charts and dashboard `Metrics` over what programs measure of themselves."""

from __future__ import annotations

from aggregates import services
from aggregates.models import AggDef, Chart, Dashboard, DashboardItem
from aggregates.sample.content import TASKS, SampleAggregate, SampleChart

DASHBOARD = (
    "metrics",
    "Metrics",
    "What programs measure of themselves with Zibrato; Zarkov's processes do so too.",
)


def _of_kind(kind: str) -> dict[str, str]:
    return {"type": "metric", "context.kind": kind}


AGGREGATES = (
    SampleAggregate("metric_timers", "MetricTimers", "Timers in seconds; key name/source/minute.", _of_kind("Timer")),
    SampleAggregate("metric_counters", "MetricCounters", "Counters; key name/source/minute.", _of_kind("Counter")),
    SampleAggregate("metric_gauges", "MetricGauges", "Gauges; key name/source/minute.", _of_kind("Gauge")),
    SampleAggregate(
        "metric_histograms", "MetricHistograms", "Histograms; key name/source/minute.", _of_kind("Histogram")
    ),
    SampleAggregate("metric_sets", "MetricSets", "Different values; key name/source/minute.", _of_kind("Set")),
    SampleAggregate(
        "metric_delivery",
        "MetricDelivery",
        "Measurements that arrived and that were lost; key publisher/level.",
        {"type": "metric"},
    ),
)

_LAST_HOUR = {"start": "-1h"}
CHARTS = (
    SampleChart(
        "metric-p95", "Timers, 95 %", "metric_timers", "line",
        "95 of 100 calls take no longer than this.", _LAST_HOUR | {"fields": "p95", "unit": "s"}, wide=True,
    ),
    SampleChart(
        "metric-calls", "Timed calls", "metric_timers", "line",
        "Calls per second.", _LAST_HOUR | {"fields": "rate", "unit": "/s"},
    ),
    SampleChart(
        "metric-counters", "Counters", "metric_counters", "line",
        "What counters count, per second.", _LAST_HOUR | {"fields": "rate", "unit": "/s"},
    ),
    SampleChart(
        "metric-gauges", "Gauges", "metric_gauges", "line", "The last reading of each minute.",
        _LAST_HOUR | {"fields": "last"},
    ),
    SampleChart(
        "metric-histograms", "Histograms, 95 %", "metric_histograms", "line",
        "95 of 100 values are no larger than this.", _LAST_HOUR | {"fields": "p95"},
    ),
    SampleChart(
        "metric-sets", "Different values", "metric_sets", "line", "How many different values each minute had.",
        _LAST_HOUR | {"fields": "distinct"},
    ),
    SampleChart(
        "metric-delivery", "Lost measurements", "metric_delivery", "table",
        "Per publisher and level: what arrived, and what was lost while a part was down.",
        {"fields": "lost_measurements, measurements"},
    ),
)  # fmt: skip


def define() -> None:
    """Make the AggDefs, charts and the dashboard; what is there already stays as it is."""
    for aggregate in AGGREGATES:
        if not AggDef.objects.filter(name=aggregate.name).exists():
            services.define(
                name=aggregate.name,
                task_name=TASKS + aggregate.task,
                description=aggregate.description,
                filter=aggregate.filter,
                realtime=True,
            )
    slug, title, description = DASHBOARD
    dashboard, _ = Dashboard.objects.get_or_create(slug=slug, defaults={"title": title, "description": description})
    for position, sample in enumerate(CHARTS):
        given = {
            "title": sample.title, "aggregate": sample.aggregate, "kind": sample.kind,
            "description": sample.description, "series_limit": 12,
        }  # fmt: skip
        chart, _ = Chart.objects.get_or_create(slug=sample.slug, defaults=given | sample.options)
        place = {"position": position, "wide": sample.wide}
        DashboardItem.objects.get_or_create(dashboard=dashboard, chart=chart, defaults=place)

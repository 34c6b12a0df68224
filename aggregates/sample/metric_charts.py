"""Aggregates, charts and the dashboard `Metrics` for the metrics that programs publish."""

from __future__ import annotations

from aggregates.sample.definitions import BundledAggregate, BundledChart, BundledDashboard


def _of_kind(kind: str) -> dict[str, str]:
    return {"type": "metric", "context.kind": kind}


_AGGREGATES = (
    BundledAggregate("metric_timers", "MetricTimers", "Timers in seconds; key name/source/minute.", _of_kind("Timer")),
    BundledAggregate("metric_counters", "MetricCounters", "Counters; key name/source/minute.", _of_kind("Counter")),
    BundledAggregate("metric_gauges", "MetricGauges", "Gauges; key name/source/minute.", _of_kind("Gauge")),
    BundledAggregate(
        "metric_histograms", "MetricHistograms", "Histograms; key name/source/minute.", _of_kind("Histogram")
    ),
    BundledAggregate("metric_sets", "MetricSets", "Different values; key name/source/minute.", _of_kind("Set")),
    BundledAggregate(
        "metric_delivery",
        "MetricDelivery",
        "Measurements that arrived and that were lost; key publisher/level.",
        {"type": "metric"},
    ),
)

_MOST_SERIES = {"series_limit": 12}
_LAST_HOUR = _MOST_SERIES | {"start": "-1h"}
_CHARTS = (
    BundledChart(
        "metric-p95", "Timers, 95 %", "metric_timers", "line",
        "95 of 100 calls take no longer than this.", _LAST_HOUR | {"fields": "p95", "unit": "s"}, wide=True,
    ),
    BundledChart(
        "metric-calls", "Timed calls", "metric_timers", "line",
        "Calls per second.", _LAST_HOUR | {"fields": "rate", "unit": "/s"},
    ),
    BundledChart(
        "metric-counters", "Counters", "metric_counters", "line",
        "What counters count, per second.", _LAST_HOUR | {"fields": "rate", "unit": "/s"},
    ),
    BundledChart(
        "metric-gauges", "Gauges", "metric_gauges", "line", "The last reading of each minute.",
        _LAST_HOUR | {"fields": "last"},
    ),
    BundledChart(
        "metric-histograms", "Histograms, 95 %", "metric_histograms", "line",
        "95 of 100 values are no larger than this.", _LAST_HOUR | {"fields": "p95"},
    ),
    BundledChart(
        "metric-sets", "Different values", "metric_sets", "line", "How many different values each minute had.",
        _LAST_HOUR | {"fields": "distinct"},
    ),
    BundledChart(
        "metric-delivery", "Lost measurements", "metric_delivery", "table",
        "Per publisher and level: what arrived, and what was lost while a part was down.",
        _MOST_SERIES | {"fields": "lost_measurements, measurements"},
    ),
)  # fmt: skip

# Any producer can send events of type `metric` without the backend: invalid ones are skipped and listed.
DASHBOARD = BundledDashboard(
    "metrics",
    "Metrics",
    "What programs measure of themselves with Zibrato; Zarkov's processes do so too.",
    _AGGREGATES,
    _CHARTS,
    on_error="skip",
    position=100,
)

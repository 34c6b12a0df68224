"""Content of the sample: events, aggregate definitions, charts and a dashboard."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aggregates.sample.definitions import BundledAggregate, BundledChart, BundledDashboard

FILE = Path(__file__).with_name("commits.jsonl.gz")  # commit histories of celery, gevent and pyzmq, 2009 to 2026
ID_PREFIX = "sample:"
EVENT_COUNT = 78_253


def events() -> Iterator[dict[str, Any]]:
    """Yield the events, oldest first, each with a fixed `id`, so that a second load stores nothing."""
    with gzip.open(FILE, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            event = json.loads(line)
            event["timestamp"] = datetime.fromtimestamp(event["timestamp"]["$datetime"], UTC)
            yield event | {"id": f"{ID_PREFIX}{number}"}


_AGGREGATES = (
    BundledAggregate(
        "commits_by_day",
        "CommitsByDay",
        "Commits of each project on each day (UTC); key project/date.",
        {"type": "commit"},
    ),
    BundledAggregate(
        "lines_by_day",
        "LinesChangedByDay",
        "Lines inserted and deleted in each project on each day (UTC); key project/date.",
        {"type": "commit"},
    ),
    BundledAggregate(
        "changes_by_kind",
        "ChangesByKind",
        "Files touched, by project and kind of file; key project/kind.",
        {"type": "change"},
    ),
    BundledAggregate("events_by_type", "EventsByType", "All events by type; key type."),
)

_CHARTS = (
    BundledChart(
        "commits-per-day",
        "Commits per day",
        "commits_by_day",
        "line",
        "How many commits each project got on each day.",
        {"unit": "commits", "start": "-2y", "fill": "zero"},
        wide=True,
    ),
    BundledChart(
        "lines-per-day",
        "Lines changed per day",
        "lines_by_day",
        "area",
        "Lines inserted and deleted in celery.",
        {"prefix": "celery/", "fields": "insertions, deletions", "unit": "lines", "start": "-2y", "fill": "zero"},
    ),
    BundledChart(
        "changes-by-kind",
        "Files touched by kind",
        "changes_by_kind",
        "bar",
        "Which kinds of files are changed most often.",
        {"unit": "files"},
    ),
    BundledChart(
        "events-by-type",
        "Events by type",
        "events_by_type",
        "bar",
        "Everything that came in; an event of your own shows here at once.",
        {"unit": "events"},
    ),
)

DASHBOARD = BundledDashboard(
    "open-source",
    "Three open-source projects",
    "Every commit to celery, gevent and pyzmq since 2009.",
    _AGGREGATES,
    _CHARTS,
)

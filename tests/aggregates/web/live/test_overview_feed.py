"""The overview: rates of the last minute, and which events are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aggregates.web.live.overview_feed import SHOWN_EVENTS, OverviewFeed, choose_events


def test_the_first_read_has_the_rates_of_the_last_minute(store: Any, database: Any) -> None:
    store.prepare()
    now = datetime.now(UTC).replace(microsecond=0)
    ages_s = [5, 5, 20, 300, -100]  # one is old, one is in the future
    database["event.1"].insert_many(
        {"_id": i + 1, "type": "a" if i else "b", "timestamp": now - timedelta(seconds=age_s), "context": {}}
        for i, age_s in enumerate(ages_s)
    )
    feed = OverviewFeed(lambda: database)
    rates = dict(feed.read()["rates"])
    assert rates == {
        int(now.timestamp()) - 20: {"a": 1},
        int(now.timestamp()) - 5: {"a": 1, "b": 1},
    }
    database["event.1"].insert_one({"_id": 9, "type": "c", "timestamp": now - timedelta(days=9), "context": {}})
    assert [counts for _, counts in feed.read()["rates"]][-1] == {"c": 1}  # later events count by their arrival


@pytest.mark.parametrize(
    ("types", "lines"),
    [
        ("m" * 50, "m" * SHOWN_EVENTS),
        ("o" * 50, "o" * SHOWN_EVENTS),
        ("m" * 30 + "o" + "m" * 30, "mmmmo"),
        ("om" * 30, "omomomom" + "o" * 12),
        ("", ""),
    ],
)
def test_measurements_do_not_hide_other_events(types: str, lines: str) -> None:
    latest = [{"_id": 100 - i, "type": "metric" if kind == "m" else kind} for i, kind in enumerate(types)]
    found = choose_events(latest)
    assert "".join("m" if event["type"] == "metric" else "o" for event in found) == lines
    assert [event["_id"] for event in found] == sorted((event["_id"] for event in found), reverse=True)

"""Ranges of outputs whose keys are not in order of time: weeks, and dimensions that begin like dates."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from pymongo.read_concern import ReadConcern

from aggregates.web.series import key_range
from aggregates.web.series.time_span import TimeSpan

pytestmark = pytest.mark.django_db
Aggregate = Callable[..., None]

DATES = [f"{date(2024, 12, 1) + timedelta(days=9 * n)}" for n in range(100)]
WEEKS = [f"{date(2024, 12, 2) + timedelta(weeks=n):%G-W%V}" for n in range(112)]
KEYS = [*DATES, *WEEKS, "2024", "2025", "2026", "2025-12", "2026-01", "2026-11", "2028-01-01"]
RANGES = [
    ("2026-11-01", ""),
    ("", "2026-11-08"),
    ("2026-11-01", "2026-11-29"),
    ("2025-12-29", "2025-12-29"),
    ("2025-12-20", "2025-12-31"),
    ("2025-12-20", "2026-01-01"),
    ("2026-01-01", "2026-01-04"),
    ("2026-12-27", "2027-01-04"),
    ("2026-01-01", "2026-12-31"),
    ("2024-01-01", "2027-12-31"),
    ("0001-01-01", "9999-12-31"),
]


def first_day(key: str) -> str:
    if "W" in key:
        return f"{date.fromisocalendar(int(key[:4]), int(key[-2:]), 1)}"
    return f"{key}-01-01"[:10]


@pytest.mark.parametrize("prefix", ["", "a/", "a/20", "a/2026"])
def test_weeks_between_dates_are_found_in_any_range(
    open_site: Any, aggregate: Aggregate, client: Client, prefix: str
) -> None:
    dimension = "a/" if prefix else ""
    aggregate("mixed", {f"{dimension}{key}": 1 for key in KEYS})
    for start, end in RANGES:
        inside = [key for key in KEYS if start <= first_day(key) <= (end or "9999-12-31")]
        expected = sorted(f"{dimension}{key}" for key in inside if f"{dimension}{key}".startswith(prefix))
        asked = {name: text for name, text in (("from", start), ("to", end), ("prefix", prefix)) if text}
        exported = client.get("/api/v1/export/mixed.jsonl", asked)
        rows = b"".join(exported.streaming_content).splitlines()  # type: ignore[attr-defined]
        assert [json.loads(row)["_id"] for row in rows] == expected
        shown = client.get("/api/v1/series/mixed/", asked).json()["series"]
        assert sum(len(line["data"]) for line in shown) == len(expected)


def test_a_range_reads_the_weeks_of_its_last_year_only(
    open_site: Any, aggregate: Aggregate, database: Any, client: Client
) -> None:
    days = [f"{year}-01-{day:02d}" for year in range(1990, 2020) for day in range(1, 29)]
    weeks = [f"{year}-W{week:02d}" for year in range(1990, 2019) for week in range(1, 53)]
    aggregate("mixed", dict.fromkeys([*days, *weeks], 1))
    database.command("profile", 2)
    client.get("/api/v1/series/mixed/", {"from": "2011-01-05", "to": "2011-01-12"})
    database.command("profile", 0)
    profile = database.get_collection("system.profile", read_concern=ReadConcern("local"))  # is not replicated
    entries = list(profile.find({"ns": f"{database.name}.zagg.mixed", "op": "query"}))
    assert sum(entry["docsExamined"] for entry in entries) < 60


@pytest.mark.parametrize("prefix", ["", "a/"])
@pytest.mark.parametrize(
    ("keys", "asked", "expected"),
    [
        (["2010-01-01", "2011-rest/2011-07-01", "2012-01-01"], "2011-07", ["2011-rest/2011-07-01"]),
        (["2009-01-01", "2021/2021-07-01", "2026-01-01"], "2021-07-01", ["2021/2021-07-01"]),
        (
            ["2025-01-01", "2025-03-01/2026-11-03", "2025-11-02/x/2026-11-04", "2026-11-03", "2026-12-01"],
            "2026-11",
            ["2025-03-01/2026-11-03", "2025-11-02/x/2026-11-04", "2026-11-03"],
        ),
    ],
)
def test_dimensions_that_begin_like_dates_are_in_a_range_by_their_period(
    open_site: Any, aggregate: Aggregate, client: Client, prefix: str, keys: list[str], asked: str, expected: list[str]
) -> None:
    aggregate("mixed", {f"{prefix}{key}": 1 for key in keys})
    span = {"from": asked, "to": asked, "prefix": prefix}
    rows = b"".join(client.get("/api/v1/export/mixed.jsonl", span).streaming_content).splitlines()  # type: ignore[attr-defined]
    assert [json.loads(row)["_id"] for row in rows] == [f"{prefix}{key}" for key in expected]
    shown = client.get("/api/v1/series/mixed/", span).json()["series"]
    assert sum(len(line["data"]) for line in shown) == len(expected)


def test_a_search_for_dimensions_that_took_long_is_not_repeated_at_once(
    aggregate: Aggregate, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregate("days", dict.fromkeys(DATES, 1))
    span = TimeSpan(datetime(2025, 1, 1, tzinfo=UTC), None)

    def narrowed() -> bool:
        return key_range.condition(database, "zagg.days", "", span) != {}

    assert narrowed()
    database["zagg.days"].insert_one({"_id": "2025-sale/2026-01-01", "value": 1})
    assert not narrowed(), "a quick search is made each time"
    database["zagg.days"].delete_one({"_id": "2025-sale/2026-01-01"})
    noted: dict[Any, float] = {}
    monkeypatch.setattr(key_range, "_no_dimensions_until", noted)
    monkeypatch.setattr(key_range, "_QUICK_S", 0.0)
    monkeypatch.setattr(key_range, "_REST", 1e9)
    assert narrowed()
    database["zagg.days"].insert_one({"_id": "2025-sale/2026-01-01", "value": 1})
    assert narrowed()
    noted.clear()
    assert not narrowed()

"""Ranges of outputs that have keys of weeks between dates, after which they sort in their year."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client
from pymongo.read_concern import ReadConcern

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

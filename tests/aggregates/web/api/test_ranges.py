"""Ranges of time of aggregates: which keys they have, in every kind of answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from pymongo.read_concern import ReadConcern

from aggregates.keys.key_time import KeyTime
from aggregates.models.chart import Chart
from aggregates.web.embed import chart_feed
from tests.support.web.configuration import configure
from tests.support.web.feed_answer import answer_of
from tests.support.web.series_answer import points, series

pytestmark = pytest.mark.django_db
Aggregate = Callable[..., None]
JULY_1 = 1309478400000.0
HOUR = 3_600_000.0
DAY = 86_400_000.0


@pytest.mark.parametrize("prefix", ["", "x/"])
def test_a_range_is_exact_for_periods_of_any_length(
    open_site: Any, aggregate: Aggregate, client: Client, prefix: str
) -> None:
    keys = ["2010", "2011", "2011-06-30", "2011-07", "2011-07-01", "2011-07-02T00:00", "2011-07-02T00:01", "2012"]
    aggregate("mixed", {f"{prefix}{key}": 1 for key in keys})
    found = series(client, "mixed", prefix=prefix, from_="2011-07-01", to="2011-07-02T00:00")
    (data,) = points(found).values()
    assert [x for x, _ in data] == [JULY_1, JULY_1, JULY_1 + DAY]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("from=2011-07&to=2011-07", ["2011-07-01T00:00", "2011-07-01T13:00", "2011-07-01T23:00", "2011-07-31T23:00"]),
        ("to=2011-07-01", ["2011-06-30T23:00", "2011-07-01T00:00", "2011-07-01T13:00", "2011-07-01T23:00"]),
        ("from=2011-07-01&to=2011-07-01T13", ["2011-07-01T00:00", "2011-07-01T13:00"]),
        ("from=2011-W26&to=2011-W26", ["2011-06-30T23:00", "2011-07-01T00:00", "2011-07-01T13:00", "2011-07-01T23:00"]),
        ("from=2011-07-01T15:00+02:00&to=2011-07-01T15:00+0200", ["2011-07-01T13:00"]),
        ("from=2011-07-01T15:00%2B02&to=2011-07-01+13:00", ["2011-07-01T13:00"]),
        ("from=2011-07-01T13:00&to=2011-07-01t13:00z&tz=UTC", ["2011-07-01T13:00"]),
        ("from=2011-08&to=2011", ["2011-08-01T00:00"]),
    ],
)
def test_series_export_ranked_and_live_streams_read_a_range_alike(
    open_site: Any, aggregate: Aggregate, client: Client, asked: str, expected: list[str]
) -> None:
    keys = [
        "2011-06-30T23:00", "2011-07-01T00:00", "2011-07-01T13:00", "2011-07-01T23:00", "2011-07-31T23:00",
        "2011-08-01T00:00",
    ]  # fmt: skip
    aggregate("hours", {key: number for number, key in enumerate(keys)})
    values = [keys.index(key) for key in expected]
    (line,) = client.get(f"/api/v1/series/hours/?{asked}").json()["series"]
    assert [y for _, y in line["data"]] == values
    lines = b"".join(client.get(f"/api/v1/export/hours.jsonl?{asked}").streaming_content).splitlines()
    assert [json.loads(text)["_id"] for text in lines] == expected
    ranked = client.get(f"/api/v1/ranked/hours/?{asked}&sort=value").json()["documents"]
    assert [document["_id"] for document in ranked] == expected
    ranked = client.get(f"/api/v1/ranked/hours/?{asked}&limit=1").json()["documents"]
    assert [document["_id"] for document in ranked] == expected[-1:]
    stream = client.get(f"/api/v1/live/hours/?{asked}").streaming_content
    text = next(part for part in stream if b"data: " in part).decode()
    assert [y for _, y in json.loads(text.partition("data: ")[2])["series"][0]["data"]] == values


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("fill", ["", "zero"])
def test_ranges_reach_to_the_ends_of_time(
    open_site: Any, aggregate: Aggregate, client: Client, zone: str, fill: str
) -> None:
    keys = ["0001-01-02", "0001-01-04", "2024-01-01", "9999-12-30", "9999-12-31"]
    aggregate("ends", {key: number for number, key in enumerate(keys, start=1)}, key_time=KeyTime(zone, "day"))
    for asked, expected in (
        ({"to": "0001-01-02"}, [1]),
        ({"from": "0001", "to": "0001"}, [1, 2]),
        ({"from": "9999", "to": "9999"}, [4, 5]),
        ({"from": "9999-12-31"}, [5]),
        ({"from": "0001-01-01T00:00", "to": "9999-12-31T23:59:59.999999"}, [1, 2, 3, 4, 5]),
    ):
        answer = client.get("/api/v1/series/ends/", {**asked, "tz": zone})
        (line,) = answer.json()["series"]
        assert [y for _, y in line["data"]] == expected, asked
        if len(expected) < 5:
            (line,) = client.get("/api/v1/series/ends/", {**asked, "tz": zone, "fill": fill}).json()["series"]
            assert [y for _, y in line["data"] if y] == expected, asked
        exported = client.get("/api/v1/export/ends.csv", {**asked, "tz": zone})
        assert len(b"".join(exported.streaming_content).splitlines()) == len(expected) + 1
        for path in ("events/", "quarantine/", "ranked/ends/"):
            assert client.get(f"/api/v1/{path}", {**asked, "tz": zone}).status_code == 200


@pytest.mark.parametrize("year", [1, 2, 9, 99, 999, 1000, 1001, 2011, 9998, 9999])
def test_ranges_around_the_turn_of_any_year_are_exact(
    open_site: Any, aggregate: Aggregate, client: Client, year: int
) -> None:
    begin = date(year, 1, 1).toordinal()
    days = [date.fromordinal(max(begin + shift, 1)) for shift in range(-3, 5)]
    aggregate("turn", {f"p/{day}": 1 for day in days} | {f"p/{day}T12:00": 1 for day in days})

    def count(**span: str) -> int:
        found = series(client, "turn", prefix="p/", tz="UTC", **span)["series"]
        return len(found[0]["data"]) if found else 0

    for day in {f"{year:04}", *map(str, days)}:
        first = f"{day}-01-01" if len(day) == 4 else day
        after = 2 * len({other for other in days if str(other) >= first})
        upto = 2 * len({other for other in days if str(other)[: len(day)] <= day})
        assert (day, count(from_=day), count(to=day)) == (day, after, upto)
    exported = client.get("/api/v1/export/turn.csv", {"from": f"{year:04}", "tz": "UTC"})
    assert len(b"".join(exported.streaming_content).splitlines()) == 1 + 2 * len(
        {day for day in days if day.year >= year}
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("from=2011-08&to=2011-07", "from = '2011-08' is after to = '2011-07': swap them"),
        ("to=20110701", "to = '20110701' could be a date or milliseconds"),
        ("from=2011-07-01T13:00+2:00", "from = '2011-07-01T13:00 2:00' is not a point in time: use a date"),
    ],
)
def test_a_range_that_cannot_be_read_is_refused_alike_everywhere(
    open_site: Any, aggregate: Aggregate, client: Client, asked: str, message: str
) -> None:
    aggregate("a", {"2011-07-01": 1})
    for path in ("series/a/", "ranked/a/", "export/a.csv", "live/a/", "events/", "quarantine/"):
        answer = client.get(f"/api/v1/{path}?{asked}")
        assert (answer.status_code, message in answer.json()["error"]["message"]) == (400, True), path


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_range_is_read_in_the_requested_zone_and_keys_in_their_own(
    open_site: Any, aggregate: Aggregate, client: Client, zone: str
) -> None:
    configure(open_site, time_zone=zone)
    aggregate("hours", {f"2011-07-01T{hour:02d}:00": hour for hour in range(24)}, key_time=KeyTime("UTC", "hour"))
    found = series(client, "hours", from_="2011-07-01T10:00", to="2011-07-01T12:00", tz="Asia/Kolkata")
    assert [y for _, y in points(found)["value"]] == [5, 6]
    moved = series(client, "hours", from_="2011-07-01T10:00Z", to="2011-07-01T12:00Z", tz="Asia/Kolkata")
    assert [y for _, y in points(moved)["value"]] == [10, 11, 12]
    aggregate("hours", {}, key_time=KeyTime("Asia/Kolkata", "hour"))
    again = series(client, "hours", from_="2011-07-01T10:00", to="2011-07-01T12:00", tz="Asia/Kolkata")
    assert [y for _, y in points(again)["value"]] == [10, 11, 12]


def test_an_export_reads_keys_in_the_zone_of_their_aggregate(
    open_site: Any, aggregate: Aggregate, client: Client
) -> None:
    hours = {f"2011-07-01T{hour:02d}:00": hour for hour in range(24)}
    aggregate("hours", hours, key_time=KeyTime("Asia/Kolkata", "hour"))
    aggregate("moments", {datetime(2011, 7, 1, hour, tzinfo=UTC): hour for hour in range(24)})
    asked = {"from": "2011-07-01T10:00", "to": "2011-07-01T11:00", "tz": "UTC"}
    for name, values in (("hours", ["16"]), ("moments", ["10", "11"])):
        answer = client.get(f"/api/v1/export/{name}.csv", asked)
        lines = b"".join(answer.streaming_content).decode().splitlines()
        assert [line.split(",")[1] for line in lines[1:]] == values


def test_iso_weeks_are_found_in_a_range(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("weeks", {"2011-W26": 1, "2011-W27": 2, "2011-W28": 3})
    assert [y for _, y in points(series(client, "weeks", from_="2011-07-01", to="2011-07-08"))["value"]] == [2]


def test_a_range_reads_only_its_part_of_the_index(
    open_site: Any, aggregate: Aggregate, database: Any, client: Client
) -> None:
    aggregate("days", {f"{year}-01-{day:02d}": 1 for year in range(1990, 2020) for day in range(1, 29)})
    database.command("profile", 2)
    found = series(client, "days", from_="2011-01-05", to="2011-01-06")
    database.command("profile", 0)
    assert len(points(found)["value"]) == 2
    profile = database.get_collection("system.profile", read_concern=ReadConcern("local"))  # is not replicated
    entries = list(profile.find({"ns": f"{database.name}.zagg.days", "op": "query"}))
    assert sum(entry["docsExamined"] for entry in entries) < 60


@pytest.mark.parametrize("path", ["series/a/", "export/a.csv"])
def test_a_range_that_ends_before_its_start_is_400(
    open_site: Any, aggregate: Aggregate, client: Client, path: str
) -> None:
    aggregate("a", {"x/2024-01-01": 1})
    answer = client.get(f"/api/v1/{path}", {"from": "2024-02-01", "to": "2024-01-01"})
    assert answer.status_code == 400
    assert "is after to = '2024-01-01'" in answer.json()["error"]["message"]


def read_everywhere(client: Client, name: str, asked: str) -> dict[str, list[Any]]:
    """Return the keys that each kind of answer has in a range, ascending; series and streams have their starts."""
    (line,) = client.get(f"/api/v1/series/{name}/?{asked}").json()["series"]
    stream = client.get(f"/api/v1/live/{name}/?{asked}").streaming_content
    text = next(part for part in stream if b"data: " in part).decode()
    (live,) = json.loads(text.partition("data: ")[2])["series"]
    exported = b"".join(client.get(f"/api/v1/export/{name}.jsonl?{asked}").streaming_content).splitlines()
    ranked = client.get(f"/api/v1/ranked/{name}/?{asked}&limit=100").json()["documents"]
    return {
        "series": [x for x, _ in line["data"]],
        "live": [x for x, _ in live["data"]],
        "export": [json.loads(row)["_id"] for row in exported],
        "ranked": sorted(document["_id"] for document in ranked),
    }


JULY = [f"2011-07-{day:02}" for day in range(1, 32)]
AROUND_JULY = ["2011-06-29", "2011-06-30", *JULY, "2011-08-01", "2011-08-02"]


@pytest.mark.parametrize("key_zone", ["UTC", "Europe/Berlin", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("form", ["", "T00:00"])
def test_dates_in_a_range_of_days_are_those_of_the_keys_for_every_viewer(
    open_site: Any, aggregate: Aggregate, client: Client, zone: str, key_zone: str, form: str
) -> None:
    configure(open_site, time_zone=zone)
    aggregate("days", {f"{day}{form}": 1 for day in AROUND_JULY}, key_time=KeyTime(key_zone, "day"))
    midnight = datetime(2011, 7, 1, tzinfo=ZoneInfo(key_zone)).timestamp() * 1000
    july = [f"{day}{form}" for day in JULY]
    for asked, expected in (
        ("from=2011-07&to=2011-07", july),
        ("from=2011-07-01&to=2011-07-31&tz=Asia/Kolkata", july),
        ("from=2011-07-03&to=2011-07-03&fill=zero", july[2:3]),
    ):
        found = read_everywhere(client, "days", asked)
        starts = [midnight + (JULY.index(key[:10])) * DAY for key in expected]
        assert found == {"series": starts, "live": starts, "export": expected, "ranked": expected}, asked


@pytest.mark.parametrize(
    ("keys", "step", "asked"),
    [
        (["2010", "2011", "2012"], "year", "2011"),
        (["2011-06", "2011-07", "2011-08"], "month", "2011-07"),
        (["2011-W26", "2011-W27", "2011-W28"], "week", "2011-W27"),
        (["2011-04-01", "2011-07-01", "2011-10-01"], "P3M", "2011-07"),
    ],
)
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_dates_in_a_range_of_longer_periods_are_those_of_the_keys(
    open_site: Any, aggregate: Aggregate, client: Client, keys: list[str], step: str, asked: str, zone: str
) -> None:
    configure(open_site, time_zone=zone)
    for key_time in (KeyTime("UTC", step), KeyTime("UTC")):
        aggregate("long", dict.fromkeys(keys, 1), key_time=key_time)
        found = read_everywhere(client, "long", f"from={asked}&to={asked}")
        assert (len(found["series"]), found["export"], found["ranked"]) == (1, keys[1:2], keys[1:2])


def test_dates_in_a_range_of_hours_and_times_in_a_range_of_days_are_the_viewers(
    open_site: Any, aggregate: Aggregate, client: Client
) -> None:
    configure(open_site, time_zone="America/New_York")
    hours = {f"2011-07-{day:02}T{hour:02}:00": 1 for day in (1, 2) for hour in range(24)}
    aggregate("hours", hours, key_time=KeyTime("UTC", "hour", 20, ("day",)))
    found = read_everywhere(client, "hours", "from=2011-07-01&to=2011-07-01")
    assert (found["export"][0], found["export"][-1]) == ("2011-07-01T04:00", "2011-07-02T03:00")
    assert found["series"] == found["live"] == [JULY_1 + 4 * HOUR + number * HOUR for number in range(24)]
    aggregate("days", dict.fromkeys(AROUND_JULY, 1), key_time=KeyTime("UTC", "day"))
    for asked in ("from=2011-06-30T20:00&to=2011-07-01", "from=2011-07-01T00:00Z&to=2011-07-01T23:00"):
        assert read_everywhere(client, "days", asked)["export"][0] == "2011-07-01", asked
    assert read_everywhere(client, "days", "from=2011-06-30T20:01&to=2011-07-02")["export"] == ["2011-07-02"]


def test_today_is_the_present_period_of_days(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    configure(open_site, time_zone="Pacific/Kiritimati")
    now = datetime.now(UTC)
    days = [f"{now + number * timedelta(days=1):%Y-%m-%d}" for number in range(-3, 4)]
    aggregate("days", dict.fromkeys(days, 1), key_time=KeyTime("UTC", "day"))
    found = read_everywhere(client, "days", "from=today&to=today")["export"]
    assert found in ([f"{moment:%Y-%m-%d}"] for moment in (now, datetime.now(UTC)))


def test_charts_and_embeds_read_dates_as_their_keys_do(open_site: Any, aggregate: Aggregate) -> None:
    configure(open_site, time_zone="America/New_York")
    aggregate("days", dict.fromkeys(AROUND_JULY, 1), key_time=KeyTime("UTC", "day"))
    july = [JULY_1 + number * DAY for number in range(31)]
    chart = Chart.objects.create(slug="c", title="c", aggregate="days", start="2011-07", end="2011-07", fill="zero")
    others = Chart.objects.create(slug="d", title="d", aggregate="days", start="2011-06-29")
    asked = {"from": "2011-07", "to": "2011-07", "tz": "Asia/Tokyo"}
    for feed in (chart_feed(chart, {}), chart_feed(others, asked)):
        (line,) = answer_of(feed)["series"]
        assert [x for x, _ in line["data"]] == july

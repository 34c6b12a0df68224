"""Keys are read in the zone of their aggregate, from the event to every answer about it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from aggregates import services
from aggregates.models.chart import Chart
from aggregates.process_connections import process_connections
from aggregates.web.embed import chart_feed
from tests.support.aggregates.definitions import task_name
from tests.support.aggregates.event_source import NOON, Producer, event
from tests.support.web.configuration import configure
from tests.support.web.feed_answer import answer_of

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
T0 = datetime(2011, 7, 1, 5, 46, tzinfo=UTC)


def ms(moment: datetime) -> float:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)


@pytest.fixture
def producer(open_site: Any) -> Producer:
    """Return a producer for a site in New York that everybody can read."""
    configure(open_site, time_zone="America/New_York")
    return Producer(process_connections().run_context.store)


def run(task: str, mode: str = "incremental", **more: Any) -> Any:
    aggdef = services.define(name=task.lower(), task_name=task_name(task))
    return services.run_now(aggdef, mode, **more)[1]


def xs(answer: Any) -> list[float]:
    return [x for x, _ in answer["series"][0]["data"]]


def read(client: Client, path: str, **asked: str) -> Any:
    answer = client.get(f"/api/v1/{path}", {name.rstrip("_"): value for name, value in asked.items()})
    assert answer.status_code == 200, answer.content
    return answer.json()


@pytest.mark.parametrize(
    ("task", "start"),
    [("ByHourAsSpelled", datetime(2011, 7, 1, 5, tzinfo=UTC)), ("ByHourInBerlin", datetime(2011, 7, 1, 5, tzinfo=UTC)),
     ("CountByDay", datetime(2011, 7, 1, tzinfo=UTC)), ("PlainPairs", datetime(2011, 7, 1, 4, tzinfo=UTC))],
)  # fmt: skip
def test_every_answer_reads_a_key_where_its_events_are(
    producer: Producer, client: Client, task: str, start: datetime
) -> None:
    producer.send(event(at=T0))
    run(task)
    name, x = task.lower(), ms(start)
    for zone in ("", "UTC", "Asia/Tokyo"):
        assert xs(read(client, f"series/{name}/", tz=zone)) == [x]
        assert xs(read(client, f"series/{name}/", tz=zone, fill="zero")) == [x]
    query = {"n": json.dumps({"c": name})}
    assert client.get("/q", query).json() == {"n": {"value": [[x, 1]]}}
    assert client.get("/qs", {"q-0.n": "n", "q-0.c": name}).json() == {"n": {"value": [[x, 1]]}}
    chart = Chart.objects.create(slug="c", title="c", aggregate=name)
    assert xs(answer_of(chart_feed(chart, {}))) == [x]
    for begin, found in ((start, 1), (start + timedelta(seconds=1), 0)):
        answer = client.get(f"/api/v1/export/{name}.jsonl", {"from": begin.isoformat()})
        assert len(b"".join(answer.streaming_content).splitlines()) == found  # type: ignore[attr-defined]
        assert len(read(client, f"series/{name}/", from_=begin.isoformat())["series"]) == found


def test_the_last_day_of_a_site_in_new_york_has_the_numbers_of_just_now(producer: Producer, client: Client) -> None:
    now = datetime.now(UTC)
    producer.send(event(at=now - 2 * HOUR), event(at=now - 3 * HOUR), event(at=now - 5 * HOUR))
    run("ByHourAsSpelled")
    found = read(client, "series/byhourasspelled/", from_="-24h", to="now", fill="zero")
    assert sum(y for _, y in found["series"][0]["data"]) == 3
    assert found["step"] == "hour"
    assert 23 <= len(found["series"][0]["data"]) <= 25


def test_keys_of_a_collection_without_an_aggdef_are_in_the_zone_of_the_site(
    producer: Producer, database: Any, client: Client
) -> None:
    database["zagg.old"].insert_one({"_id": "2011-07-02", "value": 1})
    for zone in ("", "UTC"):
        assert xs(read(client, "series/old/", tz=zone)) == [1309579200000.0]
    assert client.get("/q", {"n": '{"c": "old"}'}).json() == {"n": {"value": [[1309579200000.0, 1]]}}


def test_each_output_and_each_output_of_a_pattern_has_its_own_reading(
    producer: Producer, client: Client, database: Any
) -> None:
    producer.send(event("x", at=T0))
    run("HourAndDay")
    assert xs(read(client, "series/hours/")) == [ms(datetime(2011, 7, 1, 5, tzinfo=UTC))]
    assert xs(read(client, "series/days/")) == [ms(datetime(2011, 7, 1, tzinfo=UTC))]
    run("PerType")
    assert read(client, "series/pertype.x/")["through"] == 1
    database["zgen.pertype.x.1"].insert_one({"_id": "2011-07-02", "value": 1, "through": 1})
    database["zgen.pertype.x.1"].delete_one({"_id": "p"})
    assert xs(read(client, "series/pertype.x/")) == [ms(datetime(2011, 7, 2, tzinfo=UTC))]


def test_half_months_are_filled_with_no_day_between_them(producer: Producer, client: Client) -> None:
    for count in (2, 20):
        producer.send(*(event(at=T0 + n * 15 * DAY) for n in range(count)))
        run("ByHalfMonth")
        plain = read(client, "series/byhalfmonth/")
        for fill in ("gap", "zero", "previous"):
            found = read(client, "series/byhalfmonth/", fill=fill, from_="2011-01-01", to="2026")
            assert found["series"] == plain["series"]
            assert found["step"] in ("P15D", "P16D")
    assert plain["step_varies"] is True


FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


def test_events_at_the_ends_of_time_go_through_everything(producer: Producer, client: Client) -> None:
    producer.send(event(at=FIRST), *(event(at=NOON + n * DAY) for n in range(30)), event(at=LAST))
    aggdef = services.define(name="days", task_name=task_name("ByDayOfAnyYear"))
    services.run_now(aggdef)
    for since, until in ((FIRST, NOON), (NOON, LAST), (FIRST, LAST)):
        _, outcome = services.run_now(aggdef, "rebuild", since=since, until=until)
        assert "kept as they are" not in outcome.sentence()
    assert services.verify_now(aggdef).ok
    plain = read(client, "series/days/", tz="America/New_York")
    assert (xs(plain)[0], xs(plain)[-1]) == (-62135596800000.0, 253402214400000.0)
    assert [len(xs(plain)), plain["outliers"], plain["step"]] == [32, 0, "day"]
    filled = read(client, "series/days/", fill="zero")
    assert [len(xs(filled)), filled["outliers"]] == [30, 2]
    for form in ("csv", "jsonl"):
        text = b"".join(client.get(f"/api/v1/export/days.{form}").streaming_content).decode()  # type: ignore[attr-defined]
        assert "p/0001-01-01" in text
        assert "p/9999-12-31" in text
    assert client.get("/q", {"n": '{"c": "days"}'}).json()["n"]["value"][0] == [-62135596800000.0, 1]
    for path in ("/aggregates/days/",):
        assert client.get(path).status_code == 200


def test_keys_that_were_written_with_a_short_year_do_no_harm(producer: Producer, client: Client) -> None:
    producer.send(event(at=FIRST), *(event(at=NOON + n * DAY) for n in range(30)))
    outcome = run("CountByDay")
    for fill in ("", "zero", "gap", "previous"):
        found = read(client, "series/countbyday/", fill=fill)
        assert (len(xs(found)), found["undated"]) == (30, 1)
    outcome = run("CountByDay", "rebuild", since=FIRST, until=LAST)
    assert "1 kept as they are, because period(key) fails: 'p/1-01-01' (ValueError" in outcome.sentence()
    assert client.get("/q", {"n": '{"c": "countbyday"}'}).json()["n"]["value"][0] == ["p/1-01-01", 1]

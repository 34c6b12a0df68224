"""Reading aggregates by REST: series, ranked, export, collections."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MinKey, ObjectId, Timestamp
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from django.test import Client
from pymongo.database import Database

from aggregates.keys.key_time import KeyTime
from aggregates.services import define
from tests.support.web.configuration import configure
from tests.support.web.series_answer import points, series

pytestmark = pytest.mark.django_db
Aggregate = Callable[..., None]
JULY_1 = 1309478400000.0
DAY = 86_400_000.0


def test_series_have_labels_data_and_freshness(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("a", {"x/2011-07-01": 1, "x/2011-07-02": 2, "y/2011-07-01": 3}, through=99)
    assert series(client, "a") == {
        "series": [
            {"label": "x", "key": "x", "field": "value", "data": [[JULY_1, 1], [JULY_1 + DAY, 2]]},
            {"label": "y", "key": "y", "field": "value", "data": [[JULY_1, 3]]},
        ],
        "step": "day",
        "omitted": 0,
        "outliers": 0,
        "through": 99,
        "complete_through": "2026-01-02T03:04:05.000Z",
    }


def test_a_second_output_has_the_freshness_of_its_definition(
    open_site: Any, aggregate: Aggregate, database: Any, client: Client
) -> None:
    aggregate("first", {"x": 1}, through=5)
    database["zagg.second"].insert_one({"_id": "x", "value": 1})
    database["agg.position"].insert_one({"_id": "second", "lead": "first"})
    assert series(client, "second")["through"] == 5


def test_a_prefix_selects_the_keys_below_it(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("a", {"x/2011-07-01": 1, "xy/2011-07-01": 2, "x": 3, "y/2011-07-01": 4})
    assert points(series(client, "a", prefix="x/")) == {"x": [[JULY_1, 1]]}


def test_fields_fill_and_limit_can_be_chosen(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("a", {"x/2011-07-01": {"n": 1, "m": 5}, "x/2011-07-03": {"n": 2}, "y/2011-07-01": {"n": 100}})
    found = series(client, "a", fields="n", fill="zero", limit="1")
    assert points(found) == {"y n": [[JULY_1, 100], [JULY_1 + DAY, 0], [JULY_1 + 2 * DAY, 0]]} or points(found) == {
        "y n": [[JULY_1, 100]]
    }
    assert found["omitted"] == 1


def test_a_wrong_clock_takes_the_place_of_no_series_that_is_shown(
    open_site: Any, aggregate: Aggregate, client: Client
) -> None:
    real = {f"{name}/2011-07-{day:02}T{hour:02}:00": 1 for name in "abc" for day in (1, 2) for hour in range(24)}
    aggregate("lim", {**real, "d/1970-01-01T00:00": 1_000_000})
    for limit, labels in (("1", "a"), ("3", "abc"), ("100", "abc")):
        found = series(client, "lim", fill="zero", limit=limit)
        assert "".join(points(found)) == labels
        assert (found["omitted"], found["outliers"]) == (3 - len(labels), 1)
    found = series(client, "lim", limit="1")
    assert (list(points(found)), found["omitted"], found["outliers"]) == (["d"], 3, 0)


def test_days_of_another_zone_than_the_viewers_say_so(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("days", {"2011-07-01": 1, "2011-07-02": 2}, key_time=KeyTime("Europe/Berlin", "day"))
    found = series(client, "days")
    assert (points(found)["value"][0][0], found["key_zone"]) == (JULY_1 - 2 * DAY / 24, "Europe/Berlin")
    assert "key_zone" not in series(client, "days", tz="Europe/Berlin")


def test_odd_keys_do_not_take_a_chart_away(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    hours = {f"2011-07-{day:02}T{hour:02}:00": 1 for day in (1, 2) for hour in range(24)}
    odd = {"1-01-01": 5, "total": 5, "0001-01-01T00:00": 5, "1970-01-01T00:00": 5, "9999-12-31T23:59": 5}
    aggregate("hours", hours | odd)
    found = series(client, "hours", fill="zero")
    assert [y for _, y in points(found)["value"]] == [1] * 48
    assert (found["step"], found["outliers"], found["undated"]) == ("hour", 3, 2)
    plain = series(client, "hours")
    assert (len(points(plain)["value"]), plain["outliers"]) == (51, 0)
    bulk = series(client, "hours", bulk="1")
    assert [y for _, y in points(bulk)["value"]] == [1] * 48
    assert (bulk["outliers"], bulk["later"], bulk["undated"]) == (2, 1, 2)
    assert "later" not in series(client, "hours", bulk="1", to="9999")


@pytest.mark.parametrize(
    "asked",
    [
        {"from": "yesterday"},
        {"to": "-7"},
        {"tz": "Mars"},
        {"fill": "magic"},
        {"limit": "0"},
        {"limit": "x"},
        {"bulk": "yes"},
        {"fields": "$where"},
    ],
)
def test_invalid_parameters_are_400_and_named(open_site: Any, aggregate: Aggregate, client: Client, asked: Any) -> None:
    aggregate("a", {"x": 1})
    answer = client.get("/api/v1/series/a/", asked)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["parameter"] in asked


def test_an_aggregate_without_results_has_no_series(open_site: Any, client: Client) -> None:
    define(name="mine", task_name="tests.support.aggregates.tasks.CountByDay", output="zagg.nothing")
    for name in ("nothing", "mine"):
        assert series(client, name) == {
            "series": [], "step": None, "omitted": 0, "outliers": 0,
            "through": None, "complete_through": None,
        }  # fmt: skip


@pytest.mark.parametrize("path", ["series/commit_by_day/", "ranked/commit_by_day/", "export/commit_by_day.csv"])
def test_an_unknown_aggregate_is_404_with_the_readable_names(
    open_site: Any, aggregate: Aggregate, token_client: Callable[..., Client], path: str
) -> None:
    aggregate("commits_by_day", {"x/2024-01-01": 1})
    aggregate("commit_secret", {"x/2024-01-01": 1})
    answer = token_client("read", collections=["commit?by_day", "commits_*"]).get(f"/api/v1/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_aggregate")
    assert "known aggregates: commits_by_day" in answer.json()["error"]["message"]
    assert "commit_secret" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("prefix", "labels"),
    [("celery/2", ["celery"]), ("celery/2011-07", ["celery"]), ("ce", ["celery", "cern"]), ("celery/", ["celery"])],
)
def test_a_prefix_that_ends_within_a_part_does_not_cut_keys(
    open_site: Any, aggregate: Aggregate, client: Client, prefix: str, labels: list[str]
) -> None:
    days = [f"2011-{month:02d}-{day:02d}" for month in (6, 7, 8) for day in (1, 15)]
    aggregate("parts", {f"{name}/{day}": 1 for name in ("celery", "cern", "gevent") for day in days})
    found = series(client, "parts", prefix=prefix, **{"from": "2011-07-01", "to": "2011-07-31"})
    assert [line["label"] for line in found["series"]] == labels
    for line in found["series"]:
        assert [x for x, _ in line["data"]] == [1309478400000.0, 1310688000000.0]


def test_too_many_documents_are_413(
    open_site: Any, aggregate: Aggregate, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregate("big", {str(i): 1 for i in range(11)})
    monkeypatch.setattr("aggregates.web.series.query.MAX_DOCUMENTS", 10)
    answer = client.get("/api/v1/series/big/")
    assert answer.status_code == 413
    assert "or the export" in answer.json()["error"]["message"]


def test_an_unchanged_answer_is_304_not_modified(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("a", {"x/2011-07-01": 1})
    for path in ("/api/v1/series/a/", "/api/v1/ranked/a/"):
        first = client.get(path)
        etag = first["ETag"]
        again = client.get(path, headers={"if-none-match": etag})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", etag)
    aggregate("a", {"x/2011-07-01": 2})
    assert client.get("/api/v1/series/a/", headers={"if-none-match": etag}).status_code == 200


def test_an_answer_is_unchanged_if_only_its_freshness_advances(
    open_site: Any, aggregate: Aggregate, client: Client, database: Any
) -> None:
    aggregate("a", {"x/2011-07-01": 1}, through=7)
    first = client.get("/api/v1/series/a/")
    later = {"position": 9, "complete_through": datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)}
    database["agg.position"].update_one({"_id": "a"}, {"$set": later})
    again = client.get("/api/v1/series/a/", headers={"if-none-match": first["ETag"]})
    assert again.status_code == 304
    assert (first["X-Zarkov-Through"], again["X-Zarkov-Through"]) == ("7", "9")
    assert again["X-Zarkov-Complete-Through"].startswith("2026-01-02T03:04:06")


def test_ranked_is_largest_first(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("r", {"a": 3, "b": 1, "c": 2}, through=4)
    answer = client.get("/api/v1/ranked/r/", {"limit": "2"}).json()
    assert [document["_id"] for document in answer["documents"]] == ["a", "c"]
    assert answer["through"] == 4
    asked = {"filter": '{"value": {"$lt": 3}}', "sort": "value"}
    assert [d["_id"] for d in client.get("/api/v1/ranked/r/", asked).json()["documents"]] == ["b", "c"]
    assert [d["_id"] for d in client.get("/api/v1/ranked/r/", {"prefix": "b"}).json()["documents"]] == ["b"]
    assert client.get("/api/v1/ranked/r/", {"filter": '{"$where": "1"}'}).status_code == 400


def test_csv_has_a_row_per_document_and_a_column_per_field(
    open_site: Any, aggregate: Aggregate, client: Client
) -> None:
    aggregate("e", {"x/2011-07-01": {"n": 1, "m": 2.5}, "x/2011-07-02": {"n": 3}, "y": 7})
    answer = client.get("/api/v1/export/e.csv")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="e.csv"'
    rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert rows == [
        ["key", "n", "m", "value", "more"],
        ["x/2011-07-01", "1", "2.5", "", ""],
        ["x/2011-07-02", "3", "", "", ""],
        ["y", "", "", "7", ""],
    ]


def test_csv_cells_are_never_formulas(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("e", {"=1+1": "@SUM(A1)", "+x": "-cmd", "\tq": {"=f": "=g"}, "n": -5})
    text = b"".join(client.get("/api/v1/export/e.csv").streaming_content).decode()
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t")) and (not cell.startswith("-") or cell == "-5"), cell


def test_csv_has_a_byte_order_mark_if_asked_for(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("e", {"größe": Decimal128("0.10")})
    answer = client.get("/api/v1/export/e.csv", {"bom": "1"})
    assert b"".join(answer.streaming_content).decode() == "\ufeffkey,value,more\r\ngröße,0.10,\r\n"
    refused = client.get("/api/v1/export/e.csv", {"bom": "yes"})
    assert (refused.status_code, refused.json()["error"]["details"]) == (400, {"parameter": "bom"})
    assert client.get("/api/v1/export/e.jsonl", {"bom": "1"}).status_code == 400


def test_csv_keeps_fields_that_first_appear_after_the_sample(
    open_site: Any, aggregate: Aggregate, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aggregates.web.series.export._SAMPLE", 1)
    aggregate("e", {"a": {"n": 1}, "b": {"n": 2, "late": 3}})
    rows = list(csv.reader(io.StringIO(b"".join(client.get("/api/v1/export/e.csv").streaming_content).decode())))
    assert rows[-1] == ["b", "2", '{"late": 3}']


def test_json_lines_contain_the_whole_documents_of_the_range(
    open_site: Any, aggregate: Aggregate, client: Client
) -> None:
    aggregate("e", {f"x/2011-07-{day:02d}": day for day in range(1, 11)})
    asked = {"prefix": "x/", "from": "2011-07-03", "to": "2011-07-04"}
    answer = client.get("/api/v1/export/e.jsonl", asked)
    lines = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
    assert lines == [
        {"_id": "x/2011-07-03", "value": 3, "through": 7},
        {"_id": "x/2011-07-04", "value": 4, "through": 7},
    ]


@pytest.mark.parametrize(
    "key",
    [
        Code("x"), Code("f()", {"a": 1}), ObjectId("6b0ce4a69b919859f7b9996f"), Binary(b"\0"), UUID(int=1), 1.5,
        Int64(2**40), Decimal128("1.50"), Timestamp(1, 2), datetime(2011, 7, 9, tzinfo=UTC), DatetimeMS(2**60),
        {"a": 1}, MinKey(),
        True, None, {"$ref": "users", "$id": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_a_key_of_any_type_is_answered_beside_others(
    open_site: Any, database: Database[Any], client: Client, key: Any
) -> None:
    binary = CodecOptions[dict[str, Any]](uuid_representation=UuidRepresentation.STANDARD)
    days = [{"_id": f"2011-07-{day:02}", "value": {"n": day}} for day in range(1, 4)]
    database.get_collection("zagg.odd", binary).insert_many([*days, {"_id": key, "value": {"n": 9}}])
    assert [y for _, y in points(series(client, "odd"))["n"]][:3] == [1, 2, 3]
    for asked in ({}, {"from": "2011"}):
        ranked = client.get("/api/v1/ranked/odd/", {**asked, "sort": "-value.n"}).json()["documents"]
        assert [found["value"]["n"] for found in ranked] == [9, 3, 2, 1]
        for form in ("csv", "jsonl"):
            exported = client.get(f"/api/v1/export/odd.{form}", asked)
            lines = b"".join(exported.streaming_content).splitlines()
            assert len(lines) == (5 if form == "csv" else 4)
    assert len(client.get("/q", {"n": '{"c": "odd"}'}).json()["n"]["n"]) == 4


def test_names_with_dots_and_non_ascii_letters_are_found(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("shop.v1.csv", {"x": 1})
    aggregate("größe", {"x": 1})
    assert b"".join(client.get("/api/v1/export/shop.v1.csv.csv").streaming_content).startswith(b"key")
    answer = client.get("/api/v1/export/größe.csv")
    assert answer["Content-Disposition"] == 'attachment; filename="gr_e.csv"'
    assert points(series(client, "größe")) == {"value": [["x", 1]]}


def test_collections_lists_what_the_token_may_read(
    closed_site: Any, aggregate: Aggregate, token_client: Callable[..., Client]
) -> None:
    for name in ("shop.sales", "salaries"):
        aggregate(name, {"x": 1})
    client = token_client("read", collections=["shop.*"])
    assert client.get("/api/v1/collections/").json() == {"collections": ["shop.sales"]}
    for path in ("series/salaries/", "ranked/salaries/", "export/salaries.csv", "live/salaries/"):
        assert client.get(f"/api/v1/{path}").status_code == 403, path
    for path in ("events/", "aggdefs/", "runs/", "jobs/", "quarantine/", "tasks/"):
        assert client.get(f"/api/v1/{path}").status_code == 403, path


def test_the_zone_of_the_configuration_is_that_of_keys_that_no_aggdef_owns(
    open_site: Any, aggregate: Aggregate, client: Client
) -> None:
    configure(open_site, time_zone="America/New_York")
    aggregate("a", {"2011-07-02": 1})
    assert points(series(client, "a"))["value"] == [[1309579200000.0, 1]]
    assert points(series(client, "a", tz="UTC"))["value"] == [[1309579200000.0, 1]]

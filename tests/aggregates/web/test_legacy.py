"""The queries of 2011: `/q`, `/qs`, `/qr`, `/collections`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from aggregates.web import legacy
from tests.support.web.configuration import configure

pytestmark = pytest.mark.django_db
SFWEB = {
    "date/2011-07-02": {"sflogo": 12774, "hits": 69357},
    "date/2011-07-03": {"sflogo": 13458, "hits": 68514},
    "date/2011-07-04": {"sflogo": 13967, "hits": 68494},
}
ANSWER_OF_2011 = (
    '{"foo": {"sflogo": [[1309579200000.0, 12774], [1309665600000.0, 13458], [1309752000000.0, 13967]], '
    '"hits": [[1309579200000.0, 69357], [1309665600000.0, 68514], [1309752000000.0, 68494]]}}'
)
Aggregate = Callable[..., None]


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_answer_equals_that_of_2011_byte_for_byte(
    open_site: Any, aggregate: Aggregate, client: Client, method: str
) -> None:
    configure(open_site, time_zone="America/New_York")
    aggregate("sfweb", SFWEB)
    question = {"foo": '{"c":"sfweb","b":"date/2011-07-01/","e":"date/2011-07-04"}'}
    answer = getattr(client, method)("/q", question)
    assert answer.status_code == 200
    assert answer.content.decode() == ANSWER_OF_2011
    assert answer["X-Zarkov-Through"] == "7"
    assert answer["X-Zarkov-Complete-Through"] == "2026-01-02T03:04:05.000Z"


def test_bounds_are_inclusive_and_optional(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("a", {"x/1": 1, "x/2": 2, "x/3": 3})

    def keys(**bounds: str) -> list[str]:
        answer = client.get("/q", {"n": json.dumps({"c": "a", **bounds})}).json()["n"]
        return [key for key, _ in answer.get("value", [])]

    assert keys() == ["x/1", "x/2", "x/3"]
    assert keys(b="x/2") == ["x/2", "x/3"]
    assert keys(e="x/2") == ["x/1", "x/2"]
    assert keys(b="x/2", e="x/2") == ["x/2"]
    assert keys(b="y") == []
    assert keys(b="", e="") == ["x/1", "x/2", "x/3"]


def test_a_part_of_a_query_that_is_null_is_as_if_it_were_absent(
    open_site: Any, aggregate: Aggregate, client: Client
) -> None:
    aggregate("a", {"x": 1})
    asked = json.dumps({"c": "a", "b": None, "e": None, "p": None})
    assert client.get("/q", {"n": asked}).json() == {"n": {"value": [["x", 1]]}}


def test_several_queries_have_answers_by_their_names(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("a", {"x": 1})
    aggregate("b.c", {"y": 2})
    answer = client.get("/q", {"one": '{"c":"a"}', "two": '{"c":"c","p":"zagg.b."}'}).json()
    assert answer == {"one": {"value": [["x", 1]]}, "two": {"value": [["y", 2]]}}


def test_views_are_read_like_collections(open_site: Any, database: Any, client: Client) -> None:
    database["zgen.v.1"].insert_one({"_id": "2024-01-01", "value": 5, "through": 1})
    database.command("create", "zagg.v", viewOn="zgen.v.1", pipeline=[])
    assert client.get("/q", {"n": '{"c":"v"}'}).json() == {"n": {"value": [[1704067200000.0, 5]]}}
    assert client.get("/collections").json() == {"options": ["v"]}


def test_an_unknown_collection_is_an_empty_object(open_site: Any, client: Client) -> None:
    for name in ("nothing", "a..b", "a$b", "x\0y", "x" * 300):
        answer = client.get("/q", {"n": json.dumps({"c": name})})
        assert (answer.status_code, answer.json()) == (200, {"n": {}}), name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "n is not JSON"),
        ("[]", "n needs a document"),
        ("3", "n needs a document"),
        ("{}", "c is missing"),
        ('{"z":"a"}', "c is missing"),
        ('{"c":""}', "c is missing"),
        ('{"c":{"$gt":""}}', "c must be text"),
        ('{"c":"a","b":{"$gt":""}}', "b must be text"),
        ('{"c":"a","e":7}', "e must be text"),
        ('{"c":"a","c":"b"}', "more than one field 'c'"),
        ('{"c":"a","b":"1","\\u0062":"2"}', "more than one field 'b'"),
    ],
)
def test_an_invalid_query_is_400(open_site: Any, client: Client, text: str, message: str) -> None:
    answer = client.get("/q", {"n": text})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("address", ["/q", "/qr"])
def test_a_parameter_that_is_sent_twice_is_400(open_site: Any, client: Client, address: str) -> None:
    answer = client.get(f"{address}?q-0.c=a&q-0.c=b&n=%7B%7D&n=%7B%7D")
    assert answer.status_code == 400
    assert "is sent twice" in answer.json()["error"]["message"]


@pytest.mark.parametrize("prefix", ["event", "zagg", "admin.", "zgen.", "../zagg.", " ", ""])
def test_collections_outside_zagg_are_403(open_site: Any, database: Any, client: Client, prefix: str) -> None:
    database["event.1"].insert_one({"_id": 1})
    answer = client.get("/q", {"n": json.dumps({"c": "x", "p": prefix})})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "forbidden"


def test_qs_accepts_numbered_parameters(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("a", {"x/1": {"h": 1}, "x/2": {"h": 2}})
    asked = {"q-0.n": "first", "q-0.c": "a", "q-0.e": "x/1", "q-1.n": "second", "q-1.c": "a", "q-1.b": "x/2"}
    expected = {"first": {"h": [["x/1", 1]]}, "second": {"h": [["x/2", 2]]}}
    assert client.get("/qs", asked).json() == expected
    assert client.post("/qs", asked).json() == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"q-0.c": "a"}, "q-0.n is missing"),
        ({"q-0.n": "x"}, "c is missing"),
        ({"q-0.n": "x", "q-0.c": "a", "q-0.zz": "1"}, "'q-0.zz' is unknown"),
        ({"foo": "1"}, "'foo' is unknown"),
        ({f"q-{i}.n": "x" for i in range(100)}, "100 queries in one request"),
    ],
)
def test_qs_refuses_unknown_parameters(open_site: Any, client: Client, asked: Any, message: str) -> None:
    answer = client.get("/qs", asked)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_qr_applies_filter_sort_and_limit(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("r", {"a": {"rank": 3}, "b": {"rank": 1}, "c": {"rank": 2}})

    def ranked(**more: str) -> list[str]:
        asked = {"q-0.n": "top", "q-0.c": "r", **{f"q-0.{key}": value for key, value in more.items()}}
        answer = client.get("/qr", asked)
        assert answer.status_code == 200, answer.content
        return [document["_id"] for document in answer.json()["top"]]

    assert ranked(f="{}") == ["b", "c", "a"]
    assert ranked(f="{}", sort="-value.rank") == ["a", "c", "b"]
    assert ranked(f="{}", limit="2") == ["b", "c"]
    assert ranked(f='{"value.rank": {"$gte": 2}}') == ["c", "a"]


def test_qr_and_ranked_give_the_largest_numbers_beside_values_that_are_none(
    open_site: Any, aggregate: Aggregate, client: Client
) -> None:
    odd = {"nan": float("nan"), "inf": float("inf"), "null": None, "text": "zz"}
    aggregate("r", {**odd, "a": 1000, "b": 600, "c": 1, "exact": 2**63 - 1})
    for limit, expected in (("3", ["exact", "a", "b"]), ("6", ["exact", "a", "b", "c", "text", "inf"])):
        answer = client.get("/qr", {"q-0.n": "t", "q-0.c": "r", "q-0.sort": "-value", "q-0.limit": limit}).json()["t"]
        assert [document["_id"] for document in answer] == expected
        assert client.get("/api/v1/ranked/r/", {"limit": limit}).json()["documents"] == answer
    assert [document["value"] for document in answer] == [2**63 - 1, 1000, 600, 1, "zz", None]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"q-0.limit": "101"}, "is not a whole number from 1 to 100"),
        ({"q-0.limit": "0"}, "is not a whole number from 1 to 100"),
        ({"q-0.limit": "-1"}, "is not a whole number from 1 to 100"),
        ({"q-0.limit": "ten"}, "is not a whole number from 1 to 100"),
        ({"q-0.f": "{"}, "q-0.f is not JSON"),
        ({"q-0.f": '{"$where": "1"}'}, "operator $where is not allowed"),
        ({"q-0.sort": "$where"}, "is not a field name"),
    ],
)
def test_qr_refuses_invalid_limits_filters_and_sort_fields(
    open_site: Any, aggregate: Aggregate, client: Client, more: Any, message: str
) -> None:
    aggregate("r", {"a": 1})
    answer = client.get("/qr", {"q-0.n": "top", "q-0.c": "r", "q-0.f": "{}", **more})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_collections_lists_those_below_zagg(
    open_site: Any, aggregate: Aggregate, database: Any, client: Client
) -> None:
    aggregate("b", {"x": 1})
    aggregate("a.c", {"x": 1})
    database["event.1"].insert_one({})
    database["zaggle"].insert_one({})
    assert client.get("/collections").json() == {"options": ["a.c", "b"]}


def test_reading_needs_a_login_or_a_token(closed_site: Any, client: Client) -> None:
    for path in ("/q?n={}", '/q?n={"c":"a"}', "/qs?q-0.n=x&q-0.c=a", "/qr?q-0.n=x&q-0.c=a", "/collections"):
        answer = client.get(path)
        assert answer.status_code in {400, 401}, path
        if answer.status_code == 401:
            assert answer.json()["error"]["code"] == "not_authenticated"
            assert answer["WWW-Authenticate"] == "Token"
    assert client.get("/q", {"n": '{"c":"a"}'}).status_code == 401


def test_a_limited_token_reads_only_its_collections(
    closed_site: Any, aggregate: Aggregate, token_client: Callable[..., Client]
) -> None:
    for name in ("shop.sales", "shop.visits", "salaries"):
        aggregate(name, {"x": 1})
    client = token_client("read", collections=["shop.*"])
    assert client.get("/q", {"n": '{"c":"shop.sales"}'}).status_code == 200
    assert client.get("/q", {"n": '{"c":"salaries"}'}).status_code == 403
    assert client.get("/q", {"n": '{"c":"ries","p":"zagg.sala"}'}).status_code == 403
    assert client.get("/q", {"a": '{"c":"shop.sales"}', "b": '{"c":"salaries"}'}).status_code == 403
    assert client.get("/collections").json() == {"options": ["shop.sales", "shop.visits"]}
    assert client.get("/qr", {"q-0.n": "t", "q-0.c": "salaries"}).status_code == 403


def test_values_without_a_json_form_are_converted(open_site: Any, aggregate: Aggregate, client: Client) -> None:
    aggregate("odd", {"x": float("nan"), "y": float("inf"), "z": b"\x00"})
    answer = client.get("/q", {"n": '{"c":"odd"}'})
    assert json.loads(answer.content) == {"n": {"value": [["x", None], ["y", None], ["z", "AA=="]]}}


def test_long_keys_and_fields_count_as_work_and_are_bounded(
    open_site: Any, aggregate: Aggregate, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def compute(size_bytes: int, function: Any, *args: Any) -> Any:
        sizes.append(size_bytes)
        return function(*args)

    monkeypatch.setattr(legacy, "compute", compute)
    aggregate("fields", {"2011-07-01": {f"{'f' * 60_000}{i}": i for i in range(9)}})
    assert client.get("/q", {"n": '{"c": "fields"}'}).status_code == 200
    assert min(sizes) >= 9 * 60_000
    monkeypatch.setattr(legacy, "MAX_BYTES", 100_000)
    aggregate("keys", {"k" * 60_000: {f"f{i}": i for i in range(50)}})
    client.get("/q", {"n": '{"c": "keys"}'})
    assert sizes[-1] < 200_000  # one key for each field, until they are too many


def test_only_get_and_post_are_allowed(open_site: Any, client: Client) -> None:
    assert client.delete("/q").status_code == 405
    assert client.put("/collections").status_code == 405

"""Texts that BSON cannot hold are refused with the name of the parameter, wherever an endpoint reads JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from aggregates.models import AggDef
from aggregates.services import define
from tests.support.web.configuration import configure

pytestmark = pytest.mark.django_db
TASK = "tests.support.aggregates.tasks.CountByDay"
HALVES = ["\ud800", "x\udfffy"]
NAMES = [*HALVES, "a\0b", "\0"]  # of fields, which end with NUL in BSON
# Filters that hold a text T.
AT_A_NAME = ['{"T": 1}', '{"a": {"T": 1}}', '{"a": [{"b": {"T": 1}}]}', '{"$or": [{"a": {"$in": [{"T": 1}]}}]}']
AT_A_VALUE = ['{"a": "T"}', '{"a": {"$in": ["T"]}}', '{"$and": [{"a": {"$ne": "T"}}]}', '{"a": {"b": ["T"]}}']
FILTERED = [("/qr?q-0.n=x&q-0.c=visits&q-0.f=", "q-0.f"), ("/api/v1/events/?filter=", "filter"),
            ("/api/v1/ranked/visits/?filter=", "filter")]  # fmt: skip
OF_Q = ['{"c": "T"}', '{"c": "visits", "b": "T"}', '{"c": "visits", "e": "T"}', '{"c": "visits", "p": "T"}']
OF_AGGDEF = [("name", '"T"'), ("task_name", '"T"'), ("description", '"T"'), ("output", '"T"'), ("id_key", '"T"'),
             ("crontab", '"T"'), ("crontab_zone", '"T"'), ("on_error", '"T"'), ("inputs", '["db.T"]'),
             ("params", '{"T": 1}'), ("params", '{"a": "T"}'), ("params", '{"a": [{"T": ["b"]}]}'),
             *(("filter", each) for each in [*AT_A_NAME, *AT_A_VALUE])]  # fmt: skip
ADDRESSES = ["series/{}/", "ranked/{}/", "export/{}.csv", "aggdefs/{}/", "runs/{}/", "jobs/{}/", "quarantine/{}/",
             "quarantine/{}/raw/", "events/?type={}", "events/?context=a:{}", "events/?context={}:a",
             "series/visits/?prefix={}", "series/visits/?fields={}", "ranked/visits/?sort={}",
             "ranked/visits/?prefix={}", "export/visits.csv?prefix={}", "quarantine/?code={}", "runs/?aggdef={}",
             "runs/?state={}"]  # fmt: skip


@pytest.fixture
def client(site: Any, aggregate: Callable[..., None], token_client: Callable[..., Client]) -> Client:
    """Return a client that may do everything, and to which a failure of the server is an answer."""
    configure(site, anonymous_read=False)
    aggregate("visits", {"2011-07-01": 1})
    client = token_client("operate")
    client.raise_request_exception = False
    return client


def filled(template: str, text: str) -> str:
    return template.replace("T", json.dumps(text)[1:-1])


def assert_refused(answer: Any, parameter: str) -> None:
    assert answer.status_code == 400, (answer.status_code, answer.content)
    assert answer.json()["error"]["message"].startswith(parameter)


@pytest.mark.parametrize(("address", "parameter"), FILTERED)
def test_a_filter_with_such_a_name_or_text_is_refused(client: Client, address: str, parameter: str) -> None:
    for templates, texts in ((AT_A_NAME, NAMES), (AT_A_VALUE, HALVES)):
        for asked in (filled(template, text) for template in templates for text in texts):
            assert_refused(client.get(address + quote(asked)), parameter)


def test_nul_in_a_text_is_compared_as_any_other(client: Client) -> None:
    for address, _ in FILTERED:
        assert client.get(address + quote('{"a": "x\\u0000y"}')).status_code == 200


@pytest.mark.parametrize("template", [*OF_Q, '{"c": "visits", "T": "x"}'])
def test_a_query_of_2011_with_such_a_text_is_refused(client: Client, template: str) -> None:
    for text in HALVES:
        assert_refused(client.get("/q", {"mine": filled(template, text)}), "mine")
        assert_refused(client.post("/q", {"mine": filled(template, text)}), "mine")


@pytest.mark.parametrize(("field", "template"), OF_AGGDEF)
def test_an_aggregate_with_such_a_text_is_refused_and_not_stored(client: Client, field: str, template: str) -> None:
    define(name="known", task_name=TASK, description="before")
    before = AggDef.objects.values().get(name="known")
    for text in NAMES:
        given = {"name": "other", "task_name": TASK, field: json.loads(filled(template, text))}
        assert_refused(client.post("/api/v1/aggdefs/", json.dumps(given), content_type="application/json"), field)
        for method in (client.put, client.patch):
            asked = json.dumps({**given, "name": given["name"] if field == "name" else "known"})
            assert_refused(method("/api/v1/aggdefs/known/", asked, content_type="application/json"), field)
    assert list(AggDef.objects.values()) == [before]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inputs", [f"db.{'n' * 253}"]),
        ("inputs", [f"{'n' * 64}.c"]),
        ("id_key", "a..b"),
        ("id_key", "a.$b"),
        ("id_key", "a."),
        ("output", "n" * 101),
        ("filter", {"context.v": {"$lt": 2**63}}),
        ("filter", {"type": {"$in": ["a", -(2**63) - 1]}}),
        ("params", {"n": 10**30}),
        ("params", {"n": [{"deep": 2**64}]}),
    ],
)
def test_names_and_numbers_that_mongodb_cannot_have_are_refused(client: Client, field: str, value: Any) -> None:
    asked = json.dumps({"name": "other", "task_name": TASK, field: value})
    assert_refused(client.post("/api/v1/aggdefs/", asked, content_type="application/json"), field)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("aggdefs/known/run/", '{"mode": "T"}'),
        ("quarantine/replay/", '{"keys": ["T"]}'),
        ("quarantine/replay/", '{"keys": ["0-0-1"], "document": {"type": "T"}}'),
        ("quarantine/replay/", '{"keys": ["0-0-1"], "document": {"type": "a", "context": {"T": 1}}}'),
    ],
)
def test_no_other_body_with_such_a_text_is_accepted(client: Client, path: str, template: str) -> None:
    define(name="known", task_name=TASK)
    for text in NAMES:
        answer = client.post(f"/api/v1/{path}", filled(template, text), content_type="application/json")
        assert answer.status_code == 400, answer.content


def test_no_part_of_an_address_with_such_bytes_fails(client: Client) -> None:
    names = ["%ED%A0%80", "%00", "%FF", "n" * 5000, "..", "a..b", "$", "%EF%BF%BF"]
    for name in names:
        for path in ADDRESSES:
            assert client.get(f"/api/v1/{path.format(name)}").status_code in (200, 400, 404), path
        for part in ("b", "e", "c", "p", "n"):
            given = {"q-0.n": "x", "q-0.c": "visits"} | {f"q-0.{part}": name}
            query = "&".join(f"{key}={value}" for key, value in given.items())
            assert client.get(f"/qs?{query}").status_code in (200, 400, 403), query

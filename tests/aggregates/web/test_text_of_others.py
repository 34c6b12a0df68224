"""Outputs and events of other programs, whose text may be no UTF-8, are answered everywhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import bson
import pytest
from bson import Code, DBRef, Regex
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from django.test import Client
from pymongo.database import Database

from aggregates.web import mongo
from aggregates.web.live.feed import SeriesFeed
from aggregates.web.live.overview_feed import OverviewFeed
from aggregates.web.series.query import SeriesQuery
from tests.support.web.feed_answer import answer_of

pytestmark = pytest.mark.django_db(transaction=True)  # streams close their connection
NO_UTF_8 = b"\xff\xed\xa0\x80"  # bytes of nothing, and half of a surrogate pair
SHOWN = r"\xff\xed\xa0\x80"
DAY = 1704067200000.0


def broken(document: dict[str, Any], *, symbol: bool = False) -> RawBSONDocument:
    """Return the document with other bytes for "....", and texts as BSON's symbols if asked for."""
    encoded = bson.encode(document).replace(b"....", NO_UTF_8)
    return RawBSONDocument(encoded.replace(b"\x02s\0", b"\x0es\0") if symbol else encoded)


DOCUMENTS = [
    broken({"_id": "..../2024-01-01", "value": 1}),
    RawBSONDocument(bson.encode({"_id": "..../2024-01-01", "value": 2}).replace(b"....", b"\xfe\xfe\xfe\xfe")),
    broken({"_id": "k/2024-01-02", "value": {"....": 2, "n": "...."}, "through": "...."}),
    broken({"_id": "k/2024-01-03", "value": {"a": ["...."]}, "....": 1}),
    broken({"_id": Code("...."), "value": Code("....", {"....": 1})}),
    broken({"_id": {"....": "x"}, "value": {"a": Regex("....")}}),
    broken({"_id": "r", "value": {"a": DBRef("....", 1), "b": {"$ref": 1, "$id": "...."}}}),
    broken({"_id": "s", "value": {"s": "...."}}, symbol=True),
]
EVENTS = [
    broken({"_id": 1, "type": "....", "timestamp": datetime(2024, 1, 1, tzinfo=UTC)}),
    broken({"_id": 2, "type": "x", "context": {"....": 1}, "timestamp": "...."}),
    broken({"_id": "....", "type": 5}),
]
ADDRESSES = (
    "/q?a=" + quote('{"c": "a"}'), "/qr?q-0.n=x&q-0.c=a&q-0.sort=_id", "/qr?q-0.n=x&q-0.c=a&q-0.sort=-value.n",
    "/api/v1/series/a/", "/api/v1/series/a/?prefix=k&fill=zero&from=2024&to=2025", "/api/v1/ranked/a/",
    "/api/v1/ranked/a/?from=2024&to=2025", "/api/v1/export/a.csv", "/api/v1/export/a.jsonl", "/aggregates/a/",
    "/aggregates/", "/", "/api/v1/events/", "/api/v1/events/?type=x", "/api/v1/collections/", "/collections",
    "/metrics", "/readyz",
)  # fmt: skip


@pytest.fixture
def client(open_site: Any, database: Database[Any]) -> Client:
    """Return a client of a site with such outputs and events."""
    open_site.STORAGES = {
        **open_site.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    database["zagg.a"].insert_many(DOCUMENTS)
    database["event.1"].insert_many(EVENTS)
    return Client(raise_request_exception=False)


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_every_address_answers(client: Client, accept: str) -> None:
    for address in ADDRESSES:
        answer = client.get(address, headers={"accept": accept})
        content = answer.getvalue()
        assert answer.status_code == 200, address
        if "a.jsonl" in address or "events/" in address:
            assert SHOWN.replace("\\", "\\\\") in content.decode()


def test_texts_of_different_bytes_stay_different(client: Client, database: Database[Any]) -> None:
    database["zagg.b"].insert_many(DOCUMENTS[:2])
    (one, other) = answer_of(SeriesFeed(SeriesQuery("b"), mongo.database))["series"]
    assert [one["key"], other["key"]] == [r"\xfe\xfe\xfe\xfe", SHOWN]
    assert [one["data"], other["data"]] == [[[DAY, 2]], [[DAY, 1]]]
    assert json.loads(client.get(ADDRESSES[0]).content)["a"][SHOWN] == [[DAY + 86_400_000, 2]]


def test_the_overview_shows_events_and_counts_no_documents_of_other_ids(client: Client) -> None:
    latest = OverviewFeed(mongo.database).read()["latest"]
    assert [(event["_id"], event["type"]) for event in latest] == [(2, "x"), (1, SHOWN)]


def test_what_is_written_is_read_strictly(client: Client) -> None:
    with pytest.raises(InvalidBSON):
        list(mongo.client()[mongo.database().name]["zagg.a"].find())

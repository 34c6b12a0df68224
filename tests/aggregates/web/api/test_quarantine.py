"""Quarantine by REST: reading, replaying and deleting refused input."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import bson
import pytest
from django.test import Client
from django.urls import reverse
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.wire.refusal import packed
from tests.support.ingest.running import RunningIngester, sums
from tests.support.waiting import eventually
from tests.support.web.quarantine import API, START, entry, events, key, page_of, post


def test_the_list_is_filtered_and_paged_newest_first(ready: Any, client: Client, database: Database[Any]) -> None:
    database["quarantine"].insert_many(
        entry(n, code="bad_json" if n % 2 else "bad_type", source="ack" if n < 5 else "bson") for n in range(10)
    )
    database["quarantine"].update_one({"_id.i": 3}, {"$set": {"replayed": START}})
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = client.get(API, {"limit": "3", "cursor": cursor}).json()
        seen += [each["key"] for each in page["documents"]]
        cursor = page["next"]
    assert seen == [key(n) for n in range(9, -1, -1)]

    def keys(**given: str) -> list[str]:
        return [each["key"] for each in client.get(API, given).json()["documents"]]

    assert keys(code="bad_json", source="ack") == [key(3), key(1)]
    assert keys(replayed="yes") == [key(3)]
    assert key(3) not in keys(replayed="no")
    assert keys(**{"from": "2026-01-01T00:00:04"}) == [key(9), key(8)]
    assert keys(to="2026-01-01T00:00:00") == [key(1), key(0)]
    assert len(keys(**{"from": "2026-01-01", "to": "2026-01-01"})) == 10
    assert keys(to="2025-12-31") == keys(**{"from": "2026-01-02"}) == []
    assert keys(**{"from": "2026-01-01T01:00:04 01:00", "to": "2026-01-01T01:00:04+0100"}) == [key(9), key(8)]
    counts = client.get(API + "counts/").json()["counts"]
    assert sum(each["count"] for each in counts) == 10
    assert {"code": "bad_json", "source": "ack", "replayed": True, "count": 1, "documents": 1} in counts

    def count(**given: str) -> int:
        return sum(each["count"] for each in client.get(API + "counts/", given).json()["counts"])

    for given in ({"code": "bad_json", "source": "ack"}, {"replayed": "yes"}, {"from": "2026-01-01T00:00:04"},
                  {"from": "2026-01-01", "to": "2026-01-01"}, {"to": "2025-12-31"}):  # fmt: skip
        assert count(**given) == len(keys(**given))


@pytest.mark.parametrize(
    "given", ["cursor=x", "replayed=perhaps", "from=yesterday", "to=yesterday", "tz=Bad/Zone", "limit=0"]
)
def test_an_invalid_parameter_is_400_and_named(ready: Any, client: Client, given: str) -> None:
    answer = client.get(f"{API}?{given}")
    assert answer.status_code == 400
    if not given.startswith(("cursor", "limit")):
        assert client.get(f"{API}counts/?{given}").json() == answer.json()
    assert given.partition("=")[0] in answer.json()["error"]["message"]


def test_an_entry_shows_its_input_and_what_a_replay_would_send(
    ready: Any, client: Client, operator: Client, database: Database[Any]
) -> None:
    database["quarantine"].insert_many([entry(0), entry(1, b"\xff\x00", "bad_bson")])
    first, second = (client.get(f"{API}{key(n)}/").json() for n in (0, 1))
    assert (first["document"], first["raw"], first["mended"]) == ({"typ": "x"}, "eyJ0eXAiOiAieCJ9", False)
    assert (second["document"], second["raw"]) == (None, "/wA=")
    assert client.get(f"{API}{key(7)}/").status_code == 404
    assert client.get(f"{API}nonsense/").status_code == 400
    assert operator.delete(f"{API}{key(1)}/").status_code == 204
    assert operator.delete(f"{API}{key(1)}/").status_code == 404
    assert database["quarantine"].count_documents({}) == 1


def test_an_entry_of_several_documents_says_how_they_are_told_apart(
    ready: Any, client: Client, admin_client: Client, database: Database[Any]
) -> None:
    several = {"count": 2, "joined": "sizes", "sizes": packed((4, 1))}
    database["quarantine"].insert_many([entry(0, b"[\n1]\n1") | several, entry(1, b"1\n2") | {"joined": "cut"}])
    listed = client.get(API).json()["documents"]
    assert [(each["joined"], each["count"], "sizes" in each) for each in listed] == [
        ("cut", 1, False), ("sizes", 2, False),
    ]  # fmt: skip
    found = client.get(f"{API}{key(0)}/").json()
    assert (found["sizes"], found["document"]) == ([4, 1], None)
    page = page_of(admin_client.get(reverse("admin:ingest_quarantineentry_change", args=[key(0)])))
    assert "Replay these" in page
    page = page_of(admin_client.get(reverse("admin:ingest_quarantineentry_change", args=[key(1)])))
    assert "cannot be replayed" in page
    assert 'value="replay"' not in page
    assert "<textarea" not in page


def test_the_input_can_be_downloaded_as_it_was_sent(ready: Any, client: Client, database: Database[Any]) -> None:
    packed = gzip.compress(b'{"type": "x"}\n' * 500)
    large = {name: value for name, value in entry(1).items() if name != "raw"} | {"raw_start": b"x", "bytes": 2**21}
    database["quarantine"].insert_many([entry(0, packed, "bad_json"), large])
    answer = client.get(f"{API}{key(0)}/raw/", headers={"accept": "text/html"})
    assert (answer.status_code, answer.content) == (200, packed)
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == f'attachment; filename="quarantine-{key(0)}"'
    missing = client.get(f"{API}{key(1)}/raw/")
    assert (missing.status_code, "2097152 bytes" in missing.json()["error"]["message"]) == (404, True)
    assert client.get(f"{API}{key(7)}/raw/").status_code == 404
    assert base64.b64decode(client.get(f"{API}{key(0)}/").json()["raw"]) == packed


def test_a_second_field_of_one_name_in_a_replay_request_is_400(ready: Any, operator: Client) -> None:
    body = '{"keys": ["a.1.1"], "document": {"type": "x", "type": "y"}}'
    answer = operator.post(f"{API}replay/", body, content_type="application/json")
    assert (answer.status_code, "more than one field" in answer.json()["error"]["message"]) == (400, True)


def test_repeated_replays_store_an_event_once(
    ingester: RunningIngester, operator: Client, database: Database[Any]
) -> None:
    good = bson.encode({"type": "late"})
    database["quarantine"].insert_many([*(entry(n, good, "refused_by_store") for n in range(5)), entry(5)])
    outcome = post(operator, {"keys": [key(0), key(5)]}).json()
    assert (outcome["accepted"], outcome["refused_count"]) == (1, 1)
    assert outcome["refused"][0]["key"] == key(5)
    assert "unknown_field" in outcome["refused"][0]["message"]
    outcome = post(operator, {"all": True}, "?code=refused_by_store").json()
    assert (outcome["accepted"], outcome["refused_count"], outcome["left"]) == (4, 0, 0)
    assert post(operator, {"keys": [key(n) for n in range(5)]}).json()["accepted"] == 5
    eventually(lambda: sums(database)["stored"] + sums(database)["duplicates"] == 10)
    assert events(database) == [("late", f"quarantine:{key(n)}") for n in range(5)]
    assert database["quarantine"].count_documents({"replayed": {"$ne": None}, "by": "test-operate"}) == 5
    outcome = post(operator, {"keys": [key(5)], "document": {"type": "mended", "timestamp": "2026-01-01"}}).json()
    assert outcome["accepted"] == 1
    eventually(lambda: ("mended", f"quarantine:{key(5)}") in events(database))
    assert sums(database)["quarantined"] == 0, "input that is still refused does not enter quarantine again"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "either"),
        ({"keys": ["a.1.1"], "all": True}, "either"),
        ({"keys": ["nonsense"]}, "JOURNAL.BLOCK.INDEX"),
        ({"all": True, "document": {}}, "single key"),
        ({"keys": "x"}, "keys"),
    ],
)
def test_an_invalid_replay_request_is_400(ready: Any, operator: Client, body: Any, message: str) -> None:
    answer = post(operator, body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_without_an_ingester_a_replay_is_503_and_changes_nothing(
    ready: Any, operator: Client, database: Database[Any]
) -> None:
    database["quarantine"].insert_one(entry(0, bson.encode({"type": "x"})))
    assert post(operator, {"all": True}).status_code == 503
    assert database["quarantine"].count_documents({"replayed": None}) == 1


def test_a_large_selection_is_replayed_in_one_request(
    ingester: RunningIngester, operator: Client, database: Database[Any]
) -> None:
    good = bson.encode({"type": "x"})
    database["quarantine"].insert_many(entry(n, good) for n in range(5_000))
    with AcknowledgedClient(
        ingester.address("ack"), connect_timeout_s=20, timeout_s=20
    ) as client:  # one entry was replayed before and is not marked
        client.send([{"type": "x", "id": f"quarantine:{key(17)}"}])
    outcome = post(operator, {"all": True}).json()
    assert outcome["accepted"] == 5_000, outcome
    eventually(lambda: database["event"].count_documents({}) == 5_000)
    assert sums(database) == {"stored": 5_000, "duplicates": 1, "quarantined": 0}

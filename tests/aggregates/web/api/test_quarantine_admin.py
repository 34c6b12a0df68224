"""Quarantine in the admin: reading, mending, replaying and deleting refused input."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import bson
import pytest
from bson import Decimal128, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pymongo.database import Database

from ingest.load import quarantine_input
from ingest.store import quarantine
from ingest.store.quarantine import Selection
from ingest.store.store import connect
from tests.support.durations import assert_within
from tests.support.ingest.running import RunningIngester, sums
from tests.support.waiting import eventually
from tests.support.web.configuration import configure
from tests.support.web.quarantine import API, LIST, START, entry, events, key, page_of, post


def staff_of(name: str) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.get(username=name))
    return client


def staff_once(staff: Callable[[str], Client]) -> Client:
    """Return a client of a viewer, who is made at the first call."""
    user = get_user_model().objects.filter(username="the viewer").first()
    if user is None:
        return staff("viewer")
    client = Client()
    client.force_login(user)
    return client


def test_a_packed_entry_says_what_to_do_with_it(
    ingester: RunningIngester, operator: Client, staff: Callable[[str], Client], database: Database[Any]
) -> None:
    database["quarantine"].insert_one(entry(0, gzip.compress(b"x"), "bad_json"))
    (refused,) = post(operator, {"keys": [key(0)]}).json()["refused"]
    assert "packed with gzip" in refused["message"]
    assert "Download it" in refused["message"]
    shown = page_of(staff("viewer").get(reverse("admin:ingest_quarantineentry_change", args=[key(0)])))
    assert f'href="{API}{key(0)}/raw/"' in shown


def test_pages_of_the_admin_name_the_zone_of_their_times(
    ready: Any, staff: Callable[[str], Client], database: Database[Any]
) -> None:
    replayed = {"replayed": START + timedelta(hours=6), "by": "operator"}
    database["quarantine"].insert_one(entry(0) | replayed)
    viewer = staff("viewer")
    with timezone.override("America/New_York"):
        shown = page_of(viewer.get(LIST))
        one = page_of(viewer.get(reverse("admin:ingest_quarantineentry_change", args=[key(0)])))
        runs = page_of(viewer.get("/admin/aggregates/run/"))
    assert ">2025-12-31 19:00:00</a>" in shown
    assert ">Time (America/New_York)</th>" in shown
    assert ">Replayed (America/New_York)</th>" in shown
    assert "2025-12-31 19:00:00 America/New_York through receiver json" in one
    assert "2026-01-01 01:00:00 America/New_York by operator" in one
    for page in (shown, one, runs):
        assert "Times in America/New_York" in page
        assert "UTC" not in page


@pytest.mark.parametrize("depth", [99, 300, 480, 500, 700, 900, 990])
def test_deep_input_is_shown_and_refused_without_an_error_of_ours(
    ingester: RunningIngester, operator: Client, staff: Callable[[str], Client], database: Database[Any], depth: int
) -> None:
    raw = b'{"type": "x", "extra": ' + b"[" * depth + b"]" * depth + b"}"
    database["quarantine"].insert_one(entry(0, raw, "nested_too_deep"))
    assert operator.get(f"{API}{key(0)}/").status_code == 200
    for address in (LIST, reverse("admin:ingest_quarantineentry_change", args=[key(0)])):
        assert "nested_too_deep" in page_of(staff_once(staff).get(address))
    outcome = post(operator, {"keys": [key(0)]}).json()
    assert (outcome["accepted"], outcome["refused_count"]) == ((1, 0) if depth < 100 else (0, 1))
    given = '{"keys": ["' + key(0) + '"], "document": ' + raw.decode() + "}"
    answer = operator.post(f"{API}replay/", given, content_type="application/json")
    assert answer.status_code in (200, 400)


def test_a_large_deep_entry_is_shown_in_part_and_mended_as_a_whole(
    ready: Any, staff: Callable[[str], Client], database: Database[Any]
) -> None:
    """Indented, it would have 60 MB."""
    items = ", ".join(["[]"] * 200_000)
    raw = f'{{"type": "", "extra": {"[" * 90}{items}{"]" * 90}}}'.encode()
    database["quarantine"].insert_one(entry(0, raw) | {"mended": bson.encode({"type": "x", "extra": "y" * 500_000})})
    viewer = staff("viewer")
    page = page_of(viewer.get(reverse("admin:ingest_quarantineentry_change", args=[key(0)])))
    assert "y" * 500_000 in page and len(page) < 1_000_000
    assert quarantine.page(database, Selection())[0][0]["mended"] is True
    assert "mended" in page_of(viewer.get(LIST))
    document = quarantine_input.decoded({"raw": raw})
    assert document is not None
    text = quarantine_input.as_text(document)
    assert len(text) < 2_000_000 and quarantine_input.from_text(text) == document


def test_an_event_keeps_its_types_when_it_is_edited(
    ingester: RunningIngester, operator: Client, staff: Callable[[str], Client], database: Database[Any]
) -> None:
    held = {
        "small": Int64(5), "large": Int64(2**40), "int": 7, "double": 1.0, "nan": float("nan"), "bytes": b"\x00\x01",
        "decimal": Decimal128("0.10"), "oid": ObjectId(), "re": Regex("^a", "i"), "when": START,
        "old": START.replace(year=1),
        "reference": {"$ref": "users", "$id": Int64(1)}, "stamp": Timestamp(1, 2), "text": "5",
        "literal": {"$numberLong": "7"}, "no date": {"$date": "x"}, "null": {"$ref": "c", "$id": 1, "$db": None},
    }  # fmt: skip
    raw = bson.encode({"typ": "x", "type": "x", "extra": held, "timestamp": START})
    database["quarantine"].insert_many([entry(0, raw), entry(1, raw)])
    one = reverse("admin:ingest_quarantineentry_change", args=[key(0)])
    text = staff("operator").get(one).context["text"].replace('"typ": "x",', "")
    document = operator.get(f"{API}{key(1)}/").json()["document"]
    del document["typ"]
    assert post(operator, {"keys": [key(1)], "document": document}).json()["accepted"] == 1
    page_of(staff_of("the operator").post(one, {"action": "replay", "text": text}, follow=True))
    eventually(lambda: sums(database)["stored"] == 2)
    raws = database.get_collection("event.1", codec_options=CodecOptions(document_class=RawBSONDocument)).find()
    element = bson.encode({"extra": held})[4:-1]
    assert [bytes(event.raw).count(element) for event in raws] == [1, 1]


def test_input_that_is_text_but_no_event_is_put_into_the_form_to_be_mended(
    ready: Any, staff: Callable[[str], Client], database: Database[Any]
) -> None:
    twice = b'{"type": "x", "extra": {"a": 1, "a": 2}}'
    database["quarantine"].insert_one(entry(0, twice, "repeated_field"))
    one = reverse("admin:ingest_quarantineentry_change", args=[key(0)])
    client = staff("operator")
    assert client.get(one).context["text"] == twice.decode()
    shown = page_of(client.post(one, {"action": "keep", "text": twice.decode()}))
    assert "more than one field" in shown


def test_half_of_a_surrogate_pair_is_shown_and_can_be_mended(
    ready: Any, client: Client, staff: Callable[[str], Client], database: Database[Any]
) -> None:
    raw = rb'{"type": "x", "extra": "\ud800"}'
    database["quarantine"].insert_one(entry(0, raw, "bad_json"))
    one = reverse("admin:ingest_quarantineentry_change", args=[key(0)])
    operator = staff("operator")
    text = operator.get(one).context["text"]
    assert r"\ud800" in text
    assert client.get(f"{API}{key(0)}/").json()["document"]["extra"] == "\ud800"
    assert "Still no event" in page_of(operator.post(one, {"action": "keep", "text": text}))
    mended = text.replace(r"\ud800", "ok")
    assert "Kept" in page_of(operator.post(one, {"action": "keep", "text": mended}, follow=True))


def test_an_operator_mends_and_replays_in_the_admin(
    ingester: RunningIngester, staff: Callable[[str], Client], database: Database[Any]
) -> None:
    database["quarantine"].insert_many([*(entry(n) for n in range(3)), entry(3, b"nonsense\x00", "bad_json")])
    client = staff("operator")
    shown = page_of(client.get(LIST))
    assert "4 match" in shown
    assert "nonsense" in shown
    assert "<code>bad_json</code> 1" in shown
    assert "3 match" in page_of(client.get(LIST, {"code": "unknown_field"}))
    one = reverse("admin:ingest_quarantineentry_change", args=[key(0)])
    shown = page_of(client.get(one))
    assert "&quot;typ&quot;: &quot;x&quot;" in shown
    assert "7b 22 74 79 70" in shown
    shown = page_of(client.post(one, {"action": "replay", "text": '{"typ": 1}'}, follow=True))
    assert "still refused" in shown
    assert "&quot;typ&quot;: 1" in shown, "the typed text is kept"
    assert "not JSON" in page_of(client.post(one, {"action": "keep", "text": "{"}))
    kept = page_of(client.post(one, {"action": "keep", "text": '{"type": "kept"}'}, follow=True))
    assert "a replay sends this text" in kept
    other = reverse("admin:ingest_quarantineentry_change", args=[key(1)])
    page_of(client.post(other, {"action": "replay", "text": '{"type": "mended", "id": "mine"}'}, follow=True))
    shown = page_of(client.post(LIST, {"action": "replay_all"}, follow=True))
    assert "1 replayed, 2 still refused" in shown
    eventually(lambda: events(database) == [("kept", f"quarantine:{key(0)}"), ("mended", "mine")])
    found = database["quarantine"].find_one({"_id.i": 0})
    assert found is not None
    assert found["by"] == "the operator"
    shown = page_of(client.post(LIST, {"action": "replay", "key": [key(0), key(2)]}, follow=True))
    assert "1 replayed, 1 still refused" in shown
    page_of(client.post(LIST, {"action": "delete", "key": [key(2)]}, follow=True))
    page_of(client.post(f"{LIST}?code=bad_json", {"action": "delete_all"}, follow=True))
    assert sorted(each["_id"]["i"] for each in database["quarantine"].find()) == [0, 1]
    page_of(client.post(one, {"action": "delete"}, follow=True))
    assert client.get(one).status_code == 404
    eventually(lambda: sums(database)["duplicates"] == 1)


def test_text_in_latin_1_is_offered_as_such_and_the_form_says_so(
    staff: Callable[[str], Client], database: Database[Any]
) -> None:
    database["quarantine"].insert_many(
        [entry(0, b'{"type": "caf\xe9"}', "bad_json"), entry(1, b'{"type": "x",}', "bad_json")]
    )
    client = staff("operator")
    latin, other = (
        page_of(client.get(reverse("admin:ingest_quarantineentry_change", args=[key(n)]))) for n in range(2)
    )
    assert "{&quot;type&quot;: &quot;café&quot;}" in latin
    assert ("shown as Windows-1252" in latin, "shown as Windows-1252" in other) == (True, False)


def test_a_viewer_can_read_and_cannot_change_quarantine(
    staff: Callable[[str], Client], database: Database[Any]
) -> None:
    database["quarantine"].insert_one(entry(0))
    client = staff("viewer")
    one = reverse("admin:ingest_quarantineentry_change", args=[key(0)])
    for where in (LIST, one):
        assert "Replay all" not in (shown := page_of(client.get(where)))
        assert "Delete" not in shown
        for action in ("replay", "replay_all", "delete", "delete_all", "keep"):
            assert client.post(where, {"action": action, "text": "{}", "key": [key(0)]}).status_code == 403
    assert database["quarantine"].find_one({"replayed": None}) is not None


def test_the_admin_reports_that_no_ingester_is_running(staff: Callable[[str], Client], database: Database[Any]) -> None:
    database["quarantine"].insert_one(entry(0, bson.encode({"type": "x"})))
    shown = page_of(staff("operator").post(LIST, {"action": "replay_all"}, follow=True))
    assert "No ingester is running" in shown


def test_a_filter_that_cannot_be_read_is_400_with_the_reason(ready: Any, admin_client: Client) -> None:
    answer = admin_client.get(LIST, {"from": "bogus"})
    assert (answer.status_code, "bogus" in answer.content.decode()) == (400, True)


def test_the_admin_reports_that_mongodb_does_not_answer(ready: Any, admin_client: Client) -> None:
    configure(ready, mongo_uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200")
    answer = admin_client.get(LIST)
    assert (answer.status_code, "MongoDB does not answer" in answer.content.decode()) == (503, True)


@pytest.fixture
def crowded(ready: Any, mongo_uri: str, database: Database[Any]) -> None:
    """Fill quarantine up to its limit, with the indexes that the ingester creates."""
    store = connect(mongo_uri, database.name)
    store.prepare()
    store.connection.close()
    codes = ("bad_json", "bad_type", "unknown_field")
    database["quarantine"].insert_many(
        (entry(n, b'{"typ": "x"}' * 20, codes[n % 3], "json" if n % 5 else "ack") for n in range(100_000)),
        ordered=False,
    )


def test_a_full_quarantine_is_read_by_its_indexes(
    crowded: None, admin_client: Client, client: Client, database: Database[Any]
) -> None:
    selections = [Selection(), Selection(code="bad_json"), Selection(source="ack"), Selection(since=START)]
    for selection in selections:
        steps = [{"$match": selection.condition()}, {"$sort": {"time": -1, "_id": -1}}, {"$limit": 51}]
        explained = database.command(
            "explain", {"aggregate": "quarantine", "pipeline": steps, "cursor": {}}, verbosity="executionStats"
        )
        assert explained["executionStats"]["totalDocsExamined"] <= 51, selection
    _, cursor = quarantine.page(database, Selection())
    for address, given in (
        (LIST, {}),
        (LIST, {"code": "bad_json", "source": "ack"}),
        (LIST, {"cursor": cursor}),
        (API, {"limit": "50"}),
        (API + "counts/", {}),
    ):

        def read(address: str = address, given: dict[str, str] = given) -> float:
            own = time.process_time()  # not the clock: the machine may be busy with other tests
            assert admin_client.get(address, given).status_code == 200
            return time.process_time() - own

        assert_within(0.3, read, tries=1)

"""Replaying quarantine entries that stand for several documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import bson
import pytest
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.load import quarantine_replay
from ingest.load.quarantine_input import MendError, decoded, documents_of, text_to_mend
from ingest.load.quarantine_replay import ReplayedEntry, keep_mended, replay_all
from ingest.store.quarantine import Count, counts
from ingest.turn import Turn
from ingest.wire.refusal import CUT, DOCUMENTS, LINES, SINGLE_COUNT, SIZES, packed
from tests.support.ingest.running import RunningIngester, events, sums, types
from tests.support.waiting import eventually

KEY = {"j": "a", "s": 1, "i": 0}


@pytest.fixture
def client(ingester: RunningIngester) -> Iterator[AcknowledgedClient]:
    with AcknowledgedClient(ingester.address("ack"), timeout_s=60) as opened:
        yield opened


def entry(raw: bytes, count: int, index: int = 0, joined: str = LINES, sizes: Sequence[int] = ()) -> dict[str, Any]:
    found = {"_id": KEY | {"i": index}, "code": "x", "source": "json", "bytes": len(raw), "raw": raw, "count": count}
    return found if count == 1 else found | {"joined": joined} | ({"sizes": packed(sizes)} if sizes else {})


def replay(database: Database[Any], client: AcknowledgedClient, given: dict[str, Any], **how: Any) -> ReplayedEntry:
    database["quarantine"].replace_one({"_id": given["_id"]}, given, upsert=True)
    (found,) = replay_all(database, client, [given], **how)
    return found


@pytest.mark.parametrize(
    "given",
    [
        entry(b'{"type":"a"}\n{\n"type":\n"b"\n}\n{"type":"c","id":"own"}', 3, joined=SIZES, sizes=(12, 15, 23)),
        entry(b'{"type":"a"}\n{"type":"b"}\n{"type":"c","id":"own"}', 3),
        entry(
            bson.encode({"type": "a"}) + bson.encode({"type": "b"}) + bson.encode({"type": "c", "id": "own"}),
            3,
            joined=DOCUMENTS,
        ),
    ],
    ids=["json", "lines", "bson"],
)
def test_each_document_of_an_entry_is_read_by_itself_and_stored_once(
    database: Database[Any], client: AcknowledgedClient, given: dict[str, Any]
) -> None:
    for _ in range(2):
        assert replay(database, client, given) == ReplayedEntry(KEY, True, "accepted", 3, 0)
    client.event("end", {})
    eventually(lambda: "end" in types(database))
    assert [(event["type"], event["id"]) for event in events(database)[:-1]] == [
        ("a", "quarantine:a.1.0:0"), ("b", "quarantine:a.1.0:1"), ("c", "own"),
    ]  # fmt: skip
    kept = database["quarantine"].find_one()
    assert kept is not None
    assert "replayed" in kept


def test_an_entry_stays_until_all_of_its_documents_are_events(
    database: Database[Any], client: AcknowledgedClient
) -> None:
    found = replay(database, client, entry(b'{"type":"a"}\n1\nnonsense\n{"type":"b"}\n{"type":5}', 5))
    assert (found.accepted, found.accepted_count, found.refused_count) == (False, 2, 3)
    assert found.message == (
        "2 of its documents accepted, 3 still refused, the first of these: a JSON int; must be an object"
    )
    kept = database["quarantine"].find_one()
    assert kept is not None
    assert "replayed" not in kept
    eventually(lambda: types(database) == ["a", "b"])


def test_an_entry_of_several_documents_cannot_be_mended_in_place(
    database: Database[Any], client: AcknowledgedClient
) -> None:
    given = entry(b'{"typ":"a"}\n{"typ":"b"}', 2)
    assert (text_to_mend(given), decoded(given)) == ("", None)
    found = replay(database, client, given, mended={"type": "a"})
    assert (found.accepted, found.refused_count) == (False, 1)
    assert "download them" in found.message
    with pytest.raises(MendError, match="stands for 2 documents"):
        keep_mended(database, KEY, {"type": "a"})


@pytest.mark.parametrize(
    ("count", "fields"),
    [(2, {"joined": CUT}), (1, {"joined": CUT}), (2, {}), (3, {"joined": LINES})],
    ids=["cut", "one line that was cut", "of an earlier version", "of another number"],
)
def test_an_entry_that_cannot_be_told_apart_is_not_replayed(
    database: Database[Any], client: AcknowledgedClient, count: int, fields: dict[str, Any]
) -> None:
    given = entry(b'{"type":"a"}\n{"type":"b"}' if count > 1 else b'{"type":"a"}', count)
    given = {key: value for key, value in given.items() if key != "joined"} | fields
    found = replay(database, client, given)
    assert (found.accepted, found.accepted_count, found.refused_count) == (False, 0, count)
    assert "download it" in found.message
    assert (text_to_mend(given), decoded(given)) == ("", None)
    with pytest.raises(MendError, match="download them"):
        keep_mended(database, KEY, {"type": "a"})


def test_entries_are_sent_in_requests_of_bounded_size(
    database: Database[Any], client: AcknowledgedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine_replay, "REQUEST_BYTES", 100)
    sent: list[int] = []
    send = client.send

    def counted(given: Any) -> Any:
        sent.append(len(given := list(given)))
        return send(given)

    monkeypatch.setattr(client, "send", counted)
    given = [entry(b'{"type":"%d", "extra":"%s"}' % (n, b"y" * 20), 1, n) for n in range(5)]
    given.insert(2, entry(b'{"type":"x"}\n{"type":"y"}', 2, 9))
    database["quarantine"].insert_many(given)
    assert all(each.accepted for each in replay_all(database, client, given))
    assert sent == [2, 2, 2, 1]


def test_others_can_run_between_the_documents_of_an_entry(
    database: Database[Any], client: AcknowledgedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.turn.TURN_S", 0.0)
    pauses: list[int] = []
    replay(database, client, entry(b"1\n" * 1_000, 1_000), turn=Turn(lambda: pauses.append(1)))
    assert len(pauses) >= 1_000


def test_what_one_message_left_in_quarantine_is_counted_and_replayed(
    database: Database[Any], client: AcknowledgedClient, ingester: RunningIngester, push: Callable[..., None]
) -> None:
    """From a message of alternating faults to its entries, and back to a store that takes them."""
    push(ingester.address("json"), b'{"typ":"x"}\n1\n{"type":"good"}\n' * 500)
    eventually(lambda: sums(database) == {"stored": 500, "duplicates": 0, "quarantined": 1_000})
    assert sorted(counts(database), key=lambda each: each.code) == [
        Count("not_a_document", "json", False, SINGLE_COUNT + 1, 500),
        Count("unknown_field", "json", False, SINGLE_COUNT + 1, 500),
    ]
    found = list(replay_all(database, client, database["quarantine"].find()))
    assert sum(each.refused_count for each in found) == 1_000
    assert sum(each.accepted_count for each in found) == 0
    joined = database["quarantine"].find_one({"code": "unknown_field", "count": 480})
    assert joined is not None
    assert list(documents_of(joined)) == [{"typ": "x"}] * 480

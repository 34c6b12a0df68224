"""`/api/v1/events/` on a real gunicorn with a real ingester."""

from __future__ import annotations

import gzip
import json
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.durations import assert_within, seconds
from tests.support.waiting import eventually
from tests.support.web.server import Server

pytestmark = pytest.mark.early


def post(server: Server, data: Any, **headers: str) -> tuple[int, Any]:
    status, _, body = server.request("api/v1/events/", data, token=server.token, **headers)
    return status, json.loads(body)


def stored(server: Server, kind: str, count: int) -> list[dict[str, Any]]:
    """Return the events of this type, once there are `count` of them."""
    collection = server.database["event.1"]
    eventually(lambda: collection.count_documents({"type": kind}) >= count, what=f"{count} events {kind}")
    return list(collection.find({"type": kind}).sort("_id", 1))


@pytest.fixture
def kind() -> str:
    """Return a type of event that no other test sends."""
    return f"kind-{uuid.uuid4().hex[:8]}"


def test_one_event_is_journalled_and_stored(server: Server, kind: str) -> None:
    assert post(server, {"type": kind, "context": {"a": 1}, "extra": None}) == (200, {"accepted": 1, "rejected": []})
    (event,) = stored(server, kind, 1)
    assert event["context"] == {"a": 1} and event["extra"] is None
    assert isinstance(event["_id"], int) and event["timestamp"] is not None


def test_a_list_has_a_reason_for_each_rejected_event(server: Server, kind: str) -> None:
    events = [
        {"type": kind, "timestamp": "2024-01-01T12:00:00+02:00"},
        {"typ": kind},
        {"type": kind, "timestamp": {"$datetime": 0}},
        7,
        {"type": kind, "timestamp": "soon"},
        {"type": kind, "timestamp": {"$datetime": 1e30}},
        {"type": kind, "context": []},
    ]
    status, receipt = post(server, events)
    assert (status, receipt["accepted"]) == (200, 2)
    assert [(item["index"], item["code"]) for item in receipt["rejected"]] == [
        (1, "unknown_field"),
        (3, "not_a_document"),
        (4, "bad_timestamp"),
        (5, "date_out_of_range"),
        (6, "bad_context"),
    ]
    assert [event["timestamp"].isoformat() for event in stored(server, kind, 2)] == [
        "2024-01-01T10:00:00+00:00",
        "1970-01-01T00:00:00+00:00",
    ]


def test_a_document_with_the_fields_of_a_reference_is_stored_and_shown(server: Server, kind: str) -> None:
    reference = {"$ref": "users", "$id": 7, "seen": [{"$ref": "pages", "$id": "x", "$db": "other"}]}
    assert post(server, {"type": kind, "context": reference, "extra": reference})[1]["accepted"] == 1
    stored(server, kind, 1)
    status, _, body = server.request(f"api/v1/events/?type={kind}")
    assert status == 200
    (event,) = json.loads(body)["events"]
    assert (event["context"], event["extra"]) == (reference, reference)


def test_json_lines_are_accepted_line_by_line(server: Server, kind: str) -> None:
    good = json.dumps({"type": kind}).encode()
    body = good + b"\n" + b'{"type": \n' + b"\n" + good + b"\n"
    status, receipt = post(server, body, Content_Type="application/x-ndjson")
    assert (status, receipt["accepted"]) == (200, 2)
    assert [(item["index"], item["code"]) for item in receipt["rejected"]] == [(1, "bad_json")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_no_event_is_lost_to_a_byte_order_mark(server: Server, kind: str, encoding: str) -> None:
    one, two = (json.dumps({"type": kind, "extra": n}) for n in (1, 2))
    for number, body in enumerate((one, f"{one}\n{two}", f"[{one}, {two}]", f"{one}\n\ufeff{two}\n"), 1):
        status, receipt = post(server, body.encode(encoding))
        assert (status, receipt) == (200, {"accepted": 1 if number == 1 else 2, "rejected": []})


def test_a_list_keeps_good_events_beside_any_bad_ones_and_each_as_it_was_sent(server: Server, kind: str) -> None:
    good = json.dumps({"type": kind})
    bad = [
        ('{"type": "x", "type": "y"}', "repeated_field"),
        ('{"type": "x", "extra": {"$numberLong": "x"}}', "bad_extended_json"),
        ('{"type": "x", "extra":   NaN}', "bad_json"),
        ("[" * 2000 + "]" * 2000, "nested_too_deep"),
        ('{"type": "x", "timestamp": {"$date": "soon"}}', "bad_timestamp"),
        ('{"typ":  "x"}', "unknown_field"),
        ('{"type":  5}', "bad_type"),
        ('{"type":  "x", "id": 7}', "bad_id"),
        (f'{{"type":  "x", "extra": {"[" * 150 + "]" * 150}}}', "nested_too_deep"),
    ]
    body = f"[{good}, {', '.join(text for text, _ in bad)}, {good}]"
    status, receipt = post(server, body.encode())
    assert (status, receipt["accepted"]) == (200, 2)
    assert [(item["index"], item["code"]) for item in receipt["rejected"]] == [
        (index, code) for index, (_, code) in enumerate(bad, 1)
    ]
    raws = {text.encode() for text, _ in bad}
    eventually(
        lambda: (
            raws
            <= {
                entry["raw"]
                for entry in server.database["quarantine"].find({"source": "http", "raw": {"$exists": True}})
            }
        )
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("form", ["\ufeff{0}\n{1}\n{0}", "\ufeff[{0}, {1}, {0}]"])
def test_half_of_a_surrogate_pair_takes_no_neighbour_along(server: Server, kind: str, encoding: str, form: str) -> None:
    good, bad = (json.dumps({"type": kind, "extra": extra}, ensure_ascii=False) for extra in ("\U0001f600", "\ud83d"))
    status, receipt = post(server, form.format(good, bad).encode(encoding, "surrogatepass"))
    assert (status, receipt["accepted"]) == (200, 2)
    assert [(item["index"], item["code"]) for item in receipt["rejected"]] == [(1, "bad_json")]
    assert "half of a surrogate pair" in receipt["rejected"][0]["message"]
    raw = bad.encode("utf-8", "surrogatepass")
    eventually(lambda: server.database["quarantine"].find_one({"source": "http", "raw": raw}))


def test_a_packed_or_broken_body_is_refused_and_kept_whole(server: Server, kind: str) -> None:
    packed = gzip.compress("\n".join(json.dumps({"type": kind, "extra": n}) for n in range(500)).encode())
    broken = f'[\n{{"type": "{kind}"}},\n{{"type": "{kind}"}}\n'.encode()
    by_chance = packed + b"\n7\n" + packed
    for body, meaning in ((packed, "packed with gzip"), (by_chance, "packed with gzip"), (broken, "not JSON")):
        status, receipt = post(server, body)
        assert (status, receipt["accepted"], len(receipt["rejected"])) == (400, 0, 1)
        assert meaning in receipt["rejected"][0]["message"]
        kept = eventually(lambda body=body: server.database["quarantine"].find_one({"raw": body}))
        assert (kept["code"], kept["bytes"]) == ("bad_json", len(body))


@pytest.mark.parametrize("form", ["[%s]", "%s"])
def test_too_many_events_at_once_are_413_as_a_list_and_as_lines(server: Server, form: str) -> None:
    body = form % ("\n" if form == "%s" else ",").join(["{}"] * 100_001)
    status, answer = post(server, body.encode())
    assert (status, answer["error"]["code"]) == (413, "too_large")
    assert "more than 100000 documents" in answer["error"]["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b'{"a": 1}', b"[{}]", b"\xff\xfe", b"null", b"NaN"])
def test_a_request_without_a_valid_event_is_400(server: Server, body: bytes) -> None:
    status, receipt = post(server, body)
    assert status == 400
    assert receipt["accepted"] == 0
    assert receipt["error"]["code"] == "no_valid_event"


def test_events_sent_to_an_address_without_its_slash_are_not_lost_behind_a_redirect(server: Server, kind: str) -> None:
    status, headers, _ = server.request("api/v1/events", {"type": kind}, token=server.token)
    assert (status, headers["location"]) == (308, "/api/v1/events/")
    assert server.request(f"api/v1/events?type={kind}", token=server.token)[0] == 200, "GET is redirected and repeated"


def test_an_empty_body_is_400(server: Server) -> None:
    status, answer = post(server, b"")
    assert (status, answer["error"]["code"]) == (400, "bad_request")


def test_a_body_above_16_mib_is_413(server: Server) -> None:
    status, answer = post(server, b"[" + b" " * (16 * 2**20) + b"]")
    assert (status, answer["error"]["code"]) == (413, "too_large")


def test_events_with_the_same_id_are_stored_once(server: Server, kind: str) -> None:
    event = {"type": kind, "id": uuid.uuid4().hex}
    for _ in range(3):
        assert post(server, [event, event])[0] == 200
    post(server, {"type": f"{kind}-end"})
    stored(server, f"{kind}-end", 1)
    assert len(stored(server, kind, 1)) == 1


def test_an_ingest_token_can_send_and_cannot_read(tmp_path: Path, mongo_uri: str) -> None:
    with Server(mongo_uri, tmp_path, ZARKOV_ANONYMOUS_READ="false") as closed:
        token = closed.make_token("shop", "ingest")
        reader = closed.make_token("dash", "read")
        event = {"type": "sale"}
        assert closed.request("api/v1/events/", event, token=token)[0] == 200
        assert closed.request("api/v1/events/", event, token=reader)[0] == 403
        assert closed.request("api/v1/events/", event)[0] == 401
        assert closed.request("api/v1/events/", event, token="nonsense")[0] == 401
        for path, answer in (
            ("api/v1/events/", 200), ("api/v1/series/x/", 404), ("collections", 200), ("metrics", 200),
        ):  # fmt: skip
            assert closed.request(path, token=token)[0] == 403, path
            assert closed.request(path)[0] == 401, path
            assert closed.request(path, token=reader)[0] == answer, path


def test_the_answer_is_503_without_an_ingester_and_200_once_it_is_back(tmp_path: Path, mongo_uri: str) -> None:
    with Server(mongo_uri, tmp_path) as server:
        server.stop("ingester", signal.SIGKILL)

        def refused() -> None:
            status, headers, body = server.request("api/v1/events/", {"type": "x"}, token=server.token)
            assert status == 503
            assert json.loads(body)["error"]["code"] == "unavailable"
            assert int(headers["retry-after"]) > 0

        assert_within(15, lambda: seconds(refused), tries=1)
        server.start("ingester", sys.executable, "manage.py", "runingest")
        eventually(lambda: server.post_events({"type": "x"}).get("accepted") == 1, what="the ingester to be back")


def test_a_full_journal_is_503_and_accepted_events_are_stored_once(tmp_path: Path, mongo_uri: str) -> None:
    sizes = {"ZARKOV_JOURNAL_MAX_BYTES": str(2**20), "ZARKOV_JOURNAL_SEGMENT_BYTES": str(2**18)}
    with Server(mongo_uri, tmp_path, **sizes) as server:
        server.stop("ingester")
        mongo_uri = server.environ["ZARKOV_MONGO_URI"]
        server.environ["ZARKOV_MONGO_URI"] = "mongodb://127.0.0.1:1/"  # nothing leaves the journal
        server.start_ingester()
        accepted: list[str] = []
        for _ in range(100):
            events = [{"type": "full", "extra": "x" * 5000, "id": uuid.uuid4().hex} for _ in range(10)]
            status, headers, body = server.request("api/v1/events/", events, token=server.token)
            if status != 200:
                break
            accepted += [event["id"] for event in events]
        assert (status, json.loads(body)["error"]["code"]) == (503, "busy")
        assert 0 < int(headers["retry-after"]) <= 60
        assert len(accepted) > 30

        def busy() -> None:
            assert server.request("api/v1/events/", events, token=server.token)[0] == 503

        assert_within(4, lambda: seconds(busy), tries=1)  # answered at once, not after a timeout
        server.stop("ingester")
        server.environ["ZARKOV_MONGO_URI"] = mongo_uri
        server.start_ingester()
        eventually(
            lambda: server.request("api/v1/events/", events, token=server.token)[0] == 200, what="room in the journal"
        )
        wanted = {*accepted, *(event["id"] for event in events)}
        count = server.database["event.1"].count_documents
        eventually(lambda: count({"type": "full"}) >= len(wanted), what="all accepted events are stored")
        assert {event["id"] for event in server.database["event.1"].find({"type": "full"})} == wanted
        assert count({"type": "full"}) == len(wanted)


def test_events_are_filtered_and_paged(server: Server, kind: str) -> None:
    events = [
        {
            "type": kind,
            "timestamp": f"2024-01-0{day}T00:00:00Z",
            "context": {"n": day, "who": "ann" if day % 2 else "bob"},
        }
        for day in range(1, 8)
    ]
    assert server.post_events(*events)["accepted"] == 7
    stored(server, kind, 7)

    def browse(**asked: str) -> Any:
        from urllib.parse import urlencode

        status, _, body = server.request(f"api/v1/events/?{urlencode({'type': kind, **asked})}")
        assert status == 200, body
        return json.loads(body)

    assert [event["context"]["n"] for event in browse()["events"]] == [7, 6, 5, 4, 3, 2, 1]
    assert [event["context"]["n"] for event in browse(context="who:bob")["events"]] == [6, 4, 2]
    assert [event["context"]["n"] for event in browse(context="n:3")["events"]] == [3]
    between = browse(**{"from": "2024-01-02", "to": "2024-01-03"})
    assert [event["context"]["n"] for event in between["events"]] == [3, 2]
    (one,) = browse(**{"from": "2024-01-02", "to": "2024-01-02"})["events"]
    assert one["context"]["n"] == 2
    (one,) = browse(**{"from": "2024-01-03T02:00 02:00", "to": "2024-01-03T02:00+02:00"})["events"]
    assert one["context"]["n"] == 3
    assert [e["context"]["n"] for e in browse(to="2024-01-03", tz="America/New_York")["events"]] == [4, 3, 2, 1]
    assert [e["context"]["n"] for e in browse(filter='{"context.n": {"$gt": 5}}')["events"]] == [7, 6]

    seen, cursor = [], ""
    while cursor is not None:
        page = browse(limit="3", cursor=cursor)
        seen += [event["context"]["n"] for event in page["events"]]
        cursor = page["next"]
        server.post_events({"type": kind, "context": {"n": 99}})  # new ones do not shift the pages
    assert seen == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    "asked", ["filter={", "filter={%22$where%22:1}", "cursor=zzz", "limit=0", "context=x", "from=x"]
)
def test_invalid_parameters_of_the_event_list_are_400(server: Server, asked: str) -> None:
    status, _, body = server.request(f"api/v1/events/?{asked}")
    assert status == 400
    assert json.loads(body)["error"]["details"]["parameter"] in asked

"""Requests whose work grows with their data hold up no other one, on a real gunicorn."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import bson
import psutil
import pytest
from bson.codec_options import CodecOptions

from aggregates.web import compute_thread, json_encoding
from aggregates.web.compute_thread import PIECE_BYTES, compute, large_answer
from aggregates.web.exceptions import TooLargeError, UnavailableError
from aggregates.web.json_encoding import to_json, to_json_in_pieces
from aggregates.web.legacy import MAX_QUERIES
from aggregates.web.series import export
from aggregates.web.series.document_reader import (
    BATCH_DOCUMENTS,
    PIECE_DOCUMENTS,
    Batch,
    ByteLimit,
    Piece,
    pieces_of,
    read_batches,
)
from tests.support.durations import assert_within
from tests.support.web.health import slowest_probe_s
from tests.support.web.server import Server

pytestmark = pytest.mark.early
WITHIN_S = 1.0  # 0.05 on an idle machine; several seconds where an answer is computed in one go
COUNT = 240_000
FEW = 200
LONG_CHARS = 1_000_000
MOST_BYTES = 500 * 2**20  # of a web process


@pytest.fixture(scope="module")
def server(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server with aggregates of many keys, of tiny documents, of many names, and of long keys and values."""
    with Server(mongo_uri, tmp_path_factory.mktemp("large"), WEB_CONCURRENCY="1") as running:
        begin = datetime(2024, 1, 1, tzinfo=UTC)
        minutes = (begin + timedelta(minutes=number) for number in range(COUNT))
        keys = [f"x/{minute:%Y-%m-%dT%H:%M}" for minute in minutes]
        running.database["zagg.many"].insert_many(
            {"_id": key, "value": {"hits": i, "size": i / 2}, "through": 7} for i, key in enumerate(keys)
        )
        running.database["zagg.tiny"].insert_many(
            {"_id": key.removeprefix("x/"), "value": i % 97} for i, key in enumerate(keys)
        )
        running.database["zagg.short"].insert_many({"_id": key, "value": 1} for key in keys[: BATCH_DOCUMENTS - 1])
        running.database["zagg.wide"].insert_many(
            {"_id": f"w/{begin + timedelta(days=i):%Y-%m-%d}", "value": {f"n{j}": j / 2 for j in range(1000)}}
            for i in range(700)
        )
        running.database["zagg.names"].insert_many(
            {"_id": key, "value": {f"n{i}x{j}": j for j in range(100)}} for i, key in enumerate(keys[:2_500])
        )
        running.database["zagg.long"].insert_many(
            {"_id": f"{i}{'<' * LONG_CHARS}/2024-01-01", "value": {"text": "<" * LONG_CHARS, "hits": i}, "through": i}
            for i in range(60)
        )
        running.request("q?a=" + quote('{"c": "none"}'))  # the first request loads the site
        yield running


def q(*names: str) -> str:
    return "q?" + "&".join(f"{i}={quote(json.dumps({'c': name}))}" for i, name in enumerate(names))


KINDS = {
    "time series of 2011": q("many"),
    "time series of tiny documents": q("tiny"),
    "time series of many names": q(*["names"] * 5),
    "many time series of few tiny documents": q(*["short"] * MAX_QUERIES),
    "ranked documents of 2011": "qr?" + "&".join(f"q-{i}.n={i}&q-{i}.c=wide&q-{i}.sort=_id" for i in range(30)),
    "series with a fill": "api/v1/series/many/?fill=zero&fields=hits&bulk=1",
    "series of many names": "api/v1/series/wide/",
    "indented series": "api/v1/series/many/?fields=hits",
    "a page of series": "api/v1/series/many/?fields=hits",
    "CSV": "api/v1/export/many.csv",
    "JSON lines": "api/v1/export/many.jsonl",
    "CSV of tiny documents": "api/v1/export/tiny.csv",
    "JSON lines of tiny documents": "api/v1/export/tiny.jsonl",
    "a page of long keys and values": "aggregates/long/",
    "CSV of long keys and values": "api/v1/export/long.csv",
    "JSON lines of long keys and values": "api/v1/export/long.jsonl",
    "ranked documents of long keys and values": "qr?q-0.n=a&q-0.c=long&q-0.sort=value.hits&q-0.limit=30",
    "ranked long keys and values": "api/v1/ranked/long/?sort=_id&limit=30",
    "series of long keys": "api/v1/series/long/",
    "time series of long keys": q("long"),
    "ranked documents of a range": "api/v1/ranked/many/?from=2020&to=2021",
}
LINES = {"CSV": COUNT + 1, "JSON lines": COUNT}
ACCEPT = {"indented series": "application/json; indent=4", "a page of series": "text/html"}


@pytest.mark.parametrize("kind", KINDS)
def test_others_are_answered_while_a_large_answer_is_computed(server: Server, kind: str) -> None:
    def attack() -> None:
        status, _, body = server.request(KINDS[kind], Accept=ACCEPT.get(kind, "*/*"))
        assert status in (200, 413), body[:300]
        if kind in LINES:
            assert body.count(b"\n") == LINES[kind]

    assert_within(WITHIN_S, lambda: slowest_probe_s(server, attack), tries=1)


def test_others_are_answered_while_a_stream_opens(server: Server) -> None:
    def attack() -> None:
        with server.stream("api/v1/live/many/") as stream:
            assert stream.next()[0] == "series"

    assert_within(WITHIN_S, lambda: slowest_probe_s(server, attack), tries=1)


def test_others_are_answered_beside_several_large_answers_which_are_right_and_memory_is_bounded(server: Server) -> None:
    of_2011, of_today = paths = q("many"), "api/v1/series/many/"
    answers: dict[str, bytes] = {}

    def ask(path: str) -> None:
        status, _, body = server.request(path)
        assert status in (200, 503)  # 503 where one has waited for a minute
        if status == 200:
            answers[path] = body

    attacks = [partial(ask, path) for path in paths] * 3
    assert_within(WITHIN_S, lambda: slowest_probe_s(server, *attacks), tries=1)
    points = json.loads(answers[of_2011])["0"]
    assert [len(points["hits"]), len(points["size"])] == [COUNT, COUNT]
    assert points["size"][-1][1] == (COUNT - 1) / 2
    assert [each["data"] for each in json.loads(answers[of_today])["series"]] == [points["hits"], points["size"]]
    assert worker_bytes(server) < MOST_BYTES


def worker_bytes(server: Server) -> int:
    (worker,) = psutil.Process(server.processes["web"].pid).children()
    return int(worker.memory_info().rss)


@pytest.mark.parametrize(
    "value",
    [
        {}, [], {"a": []}, [[]], {"a": {"b": [1, 2, {"c": None}]}}, list(range(2500)), [[i, 2.5] for i in range(1001)],
        [float("nan"), 1], {"é": "ü\ud800"}, [{"a": list(range(3000))}, 1, "x"], [list(range(2000)), []], "x", None,
        "é\"\n\ud800" * 40_000, {"k" * 99_999: 1}, [["x" * 40_000, 1]] * 3, [b"x" * 70_000, "y"],
    ],
    ids=lambda value: f"{value!r:.30}",
)  # fmt: skip
def test_json_in_pieces_is_that_of_one_call(value: Any) -> None:
    assert to_json_in_pieces(value) == to_json(value)


POINTS = [[1300000000000 + i, i] for i in range(20_000)]
SERIES = {"label": "x", "key": "x", "field": "value", "data": POINTS}


@pytest.mark.parametrize(
    "value",
    [POINTS, [POINTS], [[[POINTS]]], [SERIES], {"series": [SERIES, SERIES]}, [{"a": POINTS}], [[1, {"a": POINTS}]],
     [1, POINTS], {"a": dict(enumerate(map(str, range(20_000))))}],
    ids=lambda value: f"{value!r:.30}",
)  # fmt: skip
def test_no_call_of_c_encodes_more_than_a_thousand_points(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, sizes = json_encoding.to_json, []

    def record(part: Any) -> bytes:
        text = encode(part)
        sizes.append(len(text))
        return text

    monkeypatch.setattr(json_encoding, "to_json", record)
    to_json_in_pieces(value)
    assert max(sizes) <= 25_000


LONG_TEXT = "k" * 60_000


@pytest.mark.parametrize(
    "value",
    [
        LONG_TEXT * 9,
        [LONG_TEXT] * 9,
        [[LONG_TEXT, 1]] * 9,
        {str(i): LONG_TEXT for i in range(9)},
        {f"{LONG_TEXT}{i}": i for i in range(9)},
    ],
    ids=["text", "texts", "points", "values", "names"],
)
def test_no_call_of_c_encodes_long_texts_together(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, sizes = json_encoding.to_json, []
    monkeypatch.setattr(json_encoding, "to_json", lambda part: sizes.append(len(text := encode(part))) or text)
    to_json_in_pieces(value)
    assert max(sizes) <= 70_000


FROZEN = f"""
    from gevent import monkey; monkey.patch_all()
    import gc, aggregates.web.compute_thread
    compute = aggregates.web.compute_thread.compute
    compute({PIECE_BYTES}, int)
    assert gc.get_freeze_count() == 0
    loaded = len(gc.get_objects())
    compute({PIECE_BYTES + 1}, int)
    assert gc.get_freeze_count() >= loaded > len(gc.get_objects())
    count = gc.get_freeze_count()
    kept = [[] for _ in range(1000)]
    compute({PIECE_BYTES + 1}, int)
    assert gc.get_freeze_count() <= count
"""


def test_a_full_collection_after_large_answers_leaves_out_the_site() -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(FROZEN)], check=True, timeout=60)


def test_what_is_small_is_computed_at_once() -> None:
    assert compute(PIECE_BYTES, threading.get_ident) == threading.get_ident()


def test_tiny_documents_are_computed_in_threads_once_they_are_many(server: Server) -> None:
    batches = list(read_batches(server.database["zagg.tiny"], {}, None))
    assert sum(len(batch.documents) <= PIECE_BYTES for batch in batches) == len(batches) > 100
    assert [batch.work_bytes > PIECE_BYTES for batch in batches] == [False] + [True] * (len(batches) - 1)
    (few,) = read_batches(server.database["zagg.tiny"], {}, None, limit=FEW)
    assert few.work_bytes == len(few.documents) <= PIECE_BYTES


@pytest.mark.parametrize("lines", [export.csv_lines, export.json_lines])
def test_tiny_rows_are_written_in_threads_once_they_are_many(
    lines: Callable[[export.Rows], Iterator[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def record(size_bytes: int, function: Callable[..., Any], *given: Any) -> Any:
        result = function(*given)
        if isinstance(result, bytes):
            written.append(size_bytes)
        return result

    monkeypatch.setattr(export, "compute", record)

    def pieces(count: int) -> Iterator[Piece]:
        return in_pieces({"_id": str(number), "value": number} for number in range(count))

    assert b"".join(lines(pieces(2_000))).count(b"\n") in (2_000, 2_001)
    assert len(written) == 4 and min(written) > PIECE_BYTES
    written.clear()
    list(lines(pieces(FEW)))
    assert len(written) == 1 and written[0] <= PIECE_BYTES


def in_pieces(documents: Iterable[Mapping[str, Any]]) -> Iterator[Piece]:
    batch = b"".join(map(bson.encode, documents))
    return pieces_of(Batch(batch, len(batch)), CodecOptions(), lambda key: key != "out")


def test_a_piece_of_an_export_is_small_or_a_single_document() -> None:
    long = "x" * 300_000
    keys = ["a", long, "out", "b", "c", long, *map(str, range(1_200)), "x" * 100_000, "y" * 100_000]
    pieces = list(in_pieces({"_id": key} for key in keys))
    assert [document["_id"] for piece in pieces for document in piece.documents] == [k for k in keys if k != "out"]
    assert [piece.count for piece in pieces] == [1, 1, 3, 1, PIECE_DOCUMENTS, PIECE_DOCUMENTS, 201, 1]
    assert all(piece.size_bytes <= PIECE_BYTES for piece in pieces if piece.count > 1)
    assert list(in_pieces([])) == []


def test_the_documents_that_define_the_columns_of_an_export_are_few_if_they_are_large() -> None:
    taken: list[Piece] = []
    rows = in_pieces({"_id": i, "value": {"a": "x" * 1_000_000} if i < 10 else {"b": 1}} for i in range(11))
    lines = export.csv_lines(taken.append(row) or row for row in rows)
    assert next(lines) == b"key,a,more\r\n" and sum(piece.size_bytes for piece in taken) < 6_000_000
    assert b"".join(lines).endswith(b'\r\n10,,"{""b"": 1}"\r\n')


def test_rows_of_many_columns_are_sent_a_few_at_once() -> None:
    parts = list(
        export.csv_lines(in_pieces({"_id": i, "value": {f"n{i}x{j}": j for j in range(90)}} for i in range(300)))
    )
    assert max(map(len, parts[1:])) < 500_000 and b"".join(parts).count(b"\n") == 301


def test_an_answer_has_at_most_so_many_bytes() -> None:
    limit = ByteLimit(10)
    limit.take(10)
    with pytest.raises(TooLargeError, match="more than 10 bytes"):
        limit.take(1)


def test_a_large_answer_is_refused_if_others_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_thread, "LARGE_WITHIN_S", 0.01)
    with large_answer(), pytest.raises(UnavailableError, match="too many large answers"), large_answer():
        pass
    with large_answer():  # the place is free again
        pass

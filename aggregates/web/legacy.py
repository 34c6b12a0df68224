"""Answer the queries of Zarkov 2011: `/q`, `/qs`, `/qr` and `/collections`. They only read, by GET or POST."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from aggregates.web.auth.access import READ, Rights, rights_of
from aggregates.web.compute_thread import AnswerPlace, compute
from aggregates.web.exceptions import BadRequestError
from aggregates.web.json_encoding import to_json_in_pieces
from aggregates.web.mongo import database
from aggregates.web.response import View, json_errors, json_response, json_text_response
from aggregates.web.series import freshness, output_position, points, query, ranking
from aggregates.web.series.document_reader import MAX_BYTES, Batch, ByteLimit, Options, iter_decoded
from aggregates.web.series.query_filter import check_field, read_filter, read_json, read_number

MAX_QUERIES = 64
MAX_RANKED = 100
_AT_ONCE = 1_000  # documents whose points are encoded at once
_PART = re.compile(r"q-([0-9]{1,4})\.([a-z]+)\Z")


def _query_view(view: View) -> View:
    """Wrap a view that only reads: accept it without a CSRF token, and answer errors as JSON."""
    return csrf_exempt(require_http_methods(["GET", "HEAD", "POST"])(json_errors(view)))


@_query_view
def q(request: HttpRequest) -> HttpResponse:
    """Return time series by name and field, for any number of `name={"c": ..., "b": ..., "e": ..., "p": "zagg."}`."""
    queries = [_parse_query(name, text) for name, text in _parameters(request)]
    return _time_series(rights_of(request), queries)


@_query_view
def qs(request: HttpRequest) -> HttpResponse:
    """Return the same as `q`, by parameters `q-0.n`, `q-0.c`, `q-0.b`, `q-0.e`, `q-0.p`, `q-1.n`, ..."""
    return _time_series(rights_of(request), _parse_numbered_queries(request, {"n", "c", "b", "e", "p"}))


@_query_view
def qr(request: HttpRequest) -> HttpResponse:
    """Return ranked documents, by `q-0.n`, `q-0.c`, `q-0.f` (a filter), `q-0.sort`, `q-0.limit` (at most 100)."""
    rights = rights_of(request)
    rights.require(READ)
    queries = _parse_numbered_queries(request, {"n", "c", "f", "sort", "limit", "p"})
    with AnswerPlace() as place:
        return _ranked(rights, queries, ByteLimit(place=place))


def _ranked(rights: Rights, queries: list[dict[str, Any]], size: ByteLimit) -> HttpResponse:
    answers: dict[str, Iterable[bytes]] = {}
    for number, wanted in enumerate(queries):
        name = _readable_collection(rights, wanted)
        condition = read_filter(wanted.get("f") or "{}", f"q-{number}.f")
        sort = wanted.get("sort") or "value.rank"
        check_field(sort.removeprefix("-"), f"q-{number}.sort")
        limit = read_number(wanted.get("limit") or "", f"q-{number}.limit", 1, MAX_RANKED, MAX_RANKED)
        before = size.size_bytes
        found = ranking.read_ranked(database(), name, condition, sort, limit, size=size)
        answers[wanted["n"]] = [compute(size.size_bytes - before, to_json_in_pieces, found)]
    return _respond(answers, _positions(queries), size)


@_query_view
def collections(request: HttpRequest) -> HttpResponse:
    """List the names of all readable aggregates, without `zagg.`."""
    rights = rights_of(request)
    rights.require(READ)
    return json_response({"options": [name for name in query.list_aggregates(database()) if rights.may_read(name)]})


def _time_series(rights: Rights, queries: list[dict[str, Any]]) -> HttpResponse:
    rights.require(READ)
    collections = [_readable_collection(rights, wanted) for wanted in queries]
    positions = _positions(queries)
    answers: dict[str, Iterable[bytes]] = {}
    with AnswerPlace() as place:
        size = ByteLimit(place=place)
        for wanted, collection in zip(queries, collections, strict=True):
            batches = query.read_range(database(), collection, wanted.get("b"), wanted.get("e"))
            name = _output(wanted)
            zone = output_position.key_time(positions[name], name).zone
            answers[wanted["n"]] = _points_text(batches, zone, query.NAMESPACE + name, size)
        return _respond(answers, positions, size)


def _respond(
    answers: Mapping[str, Iterable[bytes]], positions: Mapping[str, Mapping[str, Any]], size: ByteLimit
) -> HttpResponse:
    """Return the answers, which are pieces of JSON already, by their names: put together once, since they are large."""
    text = compute(size.size_bytes, b"".join, _document((name, pieces) for name, pieces in answers.items()))
    return json_text_response(text, headers=freshness.least_current(database(), positions.values()).headers())


def _document(items: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """Yield the JSON of a document, whose values are JSON in pieces."""
    before = b"{"
    for name, pieces in items:
        yield before + to_json_in_pieces(name) + b": "
        yield from pieces
        before = b", "
    yield b"}" if before != b"{" else b"{}"


def _points_text(batches: Iterator[Batch], zone: str, name: str, size: ByteLimit) -> Iterable[bytes]:
    """Return the JSON of one answer of `/q`, in pieces. Raise `TooLargeError`."""
    options = database().codec_options
    texts = _FieldTexts(zone)
    for batch in batches:
        size.take(compute(size.size_bytes + batch.work_bytes, texts.add, batch.documents, options))
        query.check_count(texts.count, name)
    return texts.pieces()


class _FieldTexts:
    """The JSON of the points of each field, in pieces, which take less memory than the documents."""

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self._texts: dict[str, list[bytes]] = {}
        self.count = 0  # documents

    def add(self, batch: bytes, options: Options) -> int:
        """Add the points of a batch of documents, until they are too many; return the length of their JSON in bytes."""
        documents = iter(iter_decoded(batch, options))
        size_bytes = 0
        while piece := list(islice(documents, _AT_ONCE)):
            self.count += len(piece)
            for name, found in points.by_field(piece, self._zone).items():
                text = to_json_in_pieces(found)[1:-1]
                size_bytes += len(text) if name in self._texts else len(text) + len(name)
                self._texts.setdefault(name, []).append(text)
                if size_bytes > MAX_BYTES:  # one key is written for each field
                    return size_bytes
        return size_bytes

    def pieces(self) -> Iterator[bytes]:
        """Yield the document of all fields."""
        return _document((name, _list(texts)) for name, texts in self._texts.items())


def _list(texts: Iterable[bytes]) -> Iterator[bytes]:
    before = b"["
    for text in texts:
        yield before
        yield text
        before = b", "
    yield b"]"


def _positions(queries: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the position of each output, to be read before its documents: an answer is never older than it says."""
    names = dict.fromkeys(_output(wanted) for wanted in queries)
    return {name: output_position.find(database(), name) for name in names}


def _output(wanted: Mapping[str, Any]) -> str:
    return str(wanted.get("p", query.NAMESPACE) + wanted["c"]).removeprefix(query.NAMESPACE)


def _readable_collection(rights: Rights, wanted: Mapping[str, Any]) -> str | None:
    """Return the collection of a query, or raise `ForbiddenError` if it may not be read."""
    full = query.collection_name(wanted["c"], wanted.get("p", query.NAMESPACE))
    rights.require_name(full.removeprefix(query.NAMESPACE) if full else wanted["c"])
    return full


def _parameters(request: HttpRequest) -> list[tuple[str, str]]:
    """Merge the parameters of the address and the form, each name once; the form overrides the address."""
    merged: dict[str, str] = {}
    for source in (request.GET, request.POST):
        for name in source:
            if len(source.getlist(name)) > 1:
                raise BadRequestError(f"{name[:60]!r} is sent twice: send it once", parameter=name[:60])
            merged[name] = str(source[name])
    if len(merged) > MAX_QUERIES * 8:
        raise BadRequestError(f"{len(merged)} parameters: send at most {MAX_QUERIES * 8}")
    return list(merged.items())


def _parse_query(name: str, text: str) -> dict[str, Any]:
    wanted = read_json(text, name[:60])
    if not isinstance(wanted, dict):
        raise BadRequestError(f'{name[:60]} needs a document such as {{"c": "my_agg"}}', parameter=name[:60])
    return _check_query(name, {**wanted, "n": name}, {"n", "c", "b", "e", "p"})


def _parse_numbered_queries(request: HttpRequest, known: set[str]) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for name, value in _parameters(request):
        match = _PART.match(name)
        if match is None or match[2] not in known:
            allowed = ", ".join(f"q-0.{part}" for part in sorted(known))
            raise BadRequestError(f"parameter {name[:60]!r} is unknown: use {allowed}", parameter=name[:60])
        found.setdefault(int(match[1]), {})[match[2]] = value
    if len(found) > MAX_QUERIES:
        raise BadRequestError(f"{len(found)} queries in one request: send at most {MAX_QUERIES}")
    for number, wanted in found.items():
        if not wanted.get("n"):
            raise BadRequestError(f"q-{number}.n is missing: the name of the answer", parameter=f"q-{number}.n")
    return [_check_query(f"q-{number}", wanted, known) for number, wanted in sorted(found.items())]


def _check_query(name: str, wanted: dict[str, Any], known: set[str]) -> dict[str, Any]:
    for key, value in wanted.items():
        if key in known and value is not None and not isinstance(value, str):
            raise BadRequestError(f"{name[:60]}: {key} must be text, not {value!r:.60}", parameter=name[:60])
    if not wanted.get("c"):
        raise BadRequestError(f"{name[:60]}: c is missing: the name of the aggregate", parameter=name[:60])
    return {key: value for key, value in wanted.items() if value is not None}

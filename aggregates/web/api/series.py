"""Serve aggregates: `collections/`, `series/`, `ranked/`, `export/` and `live/`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from aggregates.exceptions import UnknownAggregateError, known
from aggregates.models import AggDef
from aggregates.web.api import openapi, serializers
from aggregates.web.api.api_view import ApiView, with_etag
from aggregates.web.auth.access import Rights, rights_of
from aggregates.web.auth.stream_access import may_continue
from aggregates.web.compute_thread import AnswerPlace
from aggregates.web.json_encoding import to_json_in_pieces
from aggregates.web.live.feed import SeriesFeed
from aggregates.web.live.stream import respond
from aggregates.web.mongo import database
from aggregates.web.series import export, freshness, key_range, output_position, query, ranking
from aggregates.web.series.document_reader import ByteLimit
from aggregates.web.series.fill import read_fill
from aggregates.web.series.key_span import KeySpan, read_key_span
from aggregates.web.series.query import SeriesQuery
from aggregates.web.series.query_filter import check_field, read_filter, read_number
from aggregates.web.series.time_span import read_span, read_zone


class AnyAccept(BaseContentNegotiation):
    """Ignore the `Accept` header, for endpoints whose address determines the format."""

    def select_parser(self, request, parsers):  # type: ignore[no-untyped-def]
        return parsers[0]

    def select_renderer(self, request, renderers, format_suffix=None):  # type: ignore[no-untyped-def]
        """Return the JSON renderer, which renders errors."""
        return JSONRenderer(), "application/json"


def series_query(request: HttpRequest | Request, name: str, prefix: str = "") -> SeriesQuery:
    """Parse a series query, limited to `prefix`. Raise `BadRequestError` naming the parameter."""
    given = request.GET
    fields = tuple(field.strip() for field in given.get("fields", "").split(",") if field.strip())
    for field in fields:
        check_field(field, "fields")
    found = SeriesQuery(
        name=name,
        fields=fields,
        prefix=given.get("prefix", ""),
        start=given.get("from", ""),
        end=given.get("to", ""),
        zone=read_zone(given.get("tz", ""), settings.ZARKOV.time_zone),
        fill=read_fill(given.get("fill", "")),
        bulk=bool(read_number(given.get("bulk", ""), "bulk", 0, 1, 0)),
        limit=read_number(given.get("limit", ""), "limit", 1, 500, 100),
    )
    read_span(found.start, found.end, found.zone, datetime.now(UTC))
    return found.limited_to(prefix)


def require_known(rights: Rights, name: str) -> None:
    """Raise `UnknownAggregateError` if there is neither an aggregate nor a definition called `name`."""
    found = query.list_aggregates(database())
    if name in found or AggDef.objects.filter(Q(name=name) | Q(output=f"{query.NAMESPACE}{name}")).exists():
        return
    readable = [other for other in found if rights.may_read(other)]
    raise UnknownAggregateError(f"there is no aggregate {name[:120]!r}; known aggregates: {known(readable)}")


def _key_span(request: Request, name: str, position: Mapping[str, Any]) -> KeySpan:
    """Return the span that `from`, `to` and `tz` name, for the keys of an output. Raise `BadRequestError`."""
    given = request.GET
    zone = read_zone(given.get("tz", ""), settings.ZARKOV.time_zone)
    key_time = output_position.key_time(position, name)
    return read_key_span(given.get("from", ""), given.get("to", ""), zone, key_time, datetime.now(UTC))


class CollectionsView(ApiView):
    """Names of all aggregates that can be read."""

    @openapi.describe({200: serializers.CollectionsSerializer}, 503)
    def get(self, request: Request) -> Response:
        """List the names of all aggregates that can be read, without `zagg.`."""
        rights = rights_of(request)
        return Response({"collections": [name for name in query.list_aggregates(database()) if rights.may_read(name)]})


class SeriesView(ApiView):
    """An aggregate as time series."""

    @openapi.describe({200: serializers.SeriesAnswerSerializer}, 400, 404, 413, 503, parameters=openapi.SERIES)
    def get(self, request: Request, name: str) -> HttpResponseBase:
        """Return one series for each combination of dimensions and field. Answer 404 for an unknown aggregate."""
        rights = rights_of(request)
        rights.require_name(name)
        with ExitStack() as held:
            state = SeriesFeed(series_query(request, name), database).read_holding(held)
            if not state.series:
                require_known(rights, name)
            return with_etag(request, state.facts, state.size_bytes, state.json_parts)


class RankedView(ApiView):
    """The largest or smallest documents of an aggregate."""

    @openapi.describe(
        {200: serializers.RankedSerializer},
        400,
        404,
        503,
        parameters=[
            openapi.text("sort", "Field to sort by; -FIELD puts the largest first. By default -value."),
            openapi.text("filter", 'Conditions as JSON, such as {"value": {"$gt": 10}}.'),
            openapi.PREFIX,
            *openapi.RANGE,
            openapi.number("limit", "Maximum number of documents.", 1, 100, 20),
        ],
    )
    def get(self, request: Request, name: str) -> HttpResponseBase:
        """Return documents in the order of `sort`."""
        rights = rights_of(request)
        rights.require_name(name)
        condition = read_filter(request.GET.get("filter") or "{}", "filter")
        if prefix := request.GET.get("prefix", ""):
            condition = {"$and": [condition, {"_id": key_range.starts_with(prefix)}]}
        sort = request.GET.get("sort") or "-value"
        check_field(sort.removeprefix("-"), "sort")
        limit = read_number(request.GET.get("limit", ""), "limit", 1, 100, 20)
        position = output_position.find(database(), name)
        span = _key_span(request, name, position)
        inside = None if span.is_open else span.contains
        collection = query.collection_name(name)
        with AnswerPlace() as place:
            size = ByteLimit(place=place)
            found = ranking.read_ranked(database(), collection, condition, sort, limit, inside=inside, size=size)
            if not found:
                require_known(rights, name)
            current = freshness.of_position(database(), position).document()

            def encode() -> dict[str, list[bytes]]:
                return {name: [to_json_in_pieces(part)] for name, part in {"documents": found, **current}.items()}

            return with_etag(request, current, size.size_bytes, encode)


class ExportView(ApiView):
    """All documents of an aggregate, streamed."""

    content_negotiation_class = AnyAccept

    @openapi.describe(
        {(200, "text/csv"): OpenApiTypes.STR, (200, "application/x-ndjson"): OpenApiTypes.STR},
        400,
        404,
        503,
        parameters=[openapi.PREFIX, *openapi.RANGE, openapi.BOM],
    )
    def get(self, request: Request, name: str, form: str) -> HttpResponseBase:
        """Export all documents. `csv`: one row per document, one column per field. `jsonl`: one document per line."""
        rights = rights_of(request)
        rights.require_name(name)
        write, media_type = export.form_of(form, request.GET.get("bom", ""))
        asked = series_query(request, name)
        span = _key_span(request, name, output_position.find(database(), name))
        require_known(rights, name)
        collection = query.collection_name(name)
        rows = query.stream(database(), collection, asked.prefix, span) if collection else iter(())
        response = StreamingHttpResponse(write(rows), content_type=media_type)
        response["Content-Disposition"] = f'attachment; filename="{export.file_name(name)}.{form}"'
        for header, value in freshness.read(database(), name).headers().items():
            response[header] = value
        return response


class LiveView(ApiView):
    """An aggregate as a stream of server-sent events."""

    content_negotiation_class = AnyAccept
    throttle_scope = "live"

    @openapi.describe({(200, "text/event-stream"): OpenApiTypes.STR}, 400, 503, parameters=[*openapi.SERIES])
    def get(self, request: Request, name: str) -> HttpResponse | StreamingHttpResponse:
        """Stream `series` events with the answer of `series/`, then `points` events with changes (docs/http-api.md)."""
        rights_of(request).require_name(name)
        feeds = {"": SeriesFeed(series_query(request, name), database)}
        return respond(
            request._request, feeds, may_continue(request._request, lambda rights: rights.require_name(name))
        )

"""Serve `events/`: send events to the ingester's acknowledged receiver, and list stored events."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from aggregates.web import stored_events
from aggregates.web.api import exception_handler, openapi, serializers
from aggregates.web.api.api_view import ApiView
from aggregates.web.api.pagination import make_cursor, read_cursor
from aggregates.web.api.renderer import EncodedAnswer
from aggregates.web.auth.access import INGEST
from aggregates.web.body_limit import MAX_BODY_BYTES
from aggregates.web.compute_thread import AnswerPlace, compute
from aggregates.web.exceptions import BadRequestError, IngestBusyError, TooLargeError, UnavailableError
from aggregates.web.json_encoding import to_json_in_pieces
from aggregates.web.mongo import database
from aggregates.web.series.query_filter import check_field, read_filter, read_number
from aggregates.web.series.time_span import asked_span
from ingest.client import Receipt
from ingest.exceptions import BodyError, BusyError, DeliveryError
from ingest.http import receiver
from ingest.wire.refusal import TooManyDocumentsError


class RawParser(BaseParser):
    """Pass the body on unparsed: the receiver parses the JSON itself and reports errors per event."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Return the body as bytes. Raise `TooLargeError`."""
        data: bytes = stream.read(MAX_BODY_BYTES + 1)
        if len(data) > MAX_BODY_BYTES:
            raise TooLargeError(f"the body has more than {MAX_BODY_BYTES} bytes: send fewer events at once")
        return data


class EventsView(ApiView):
    """Send events, or list stored ones."""

    parser_classes = [RawParser]
    cache_tokens = True
    needs = {"POST": INGEST}
    unlimited = True
    throttle_scope = "ingest"

    @openapi.describe(
        {200: serializers.ReceiptSerializer},
        400,
        413,
        503,
        request={
            "application/json": {
                "oneOf": [serializers.EVENT, {"type": "array", "minItems": 1, "items": serializers.EVENT}]
            },
            "application/x-ndjson": {"type": "string", "minLength": 1, "description": "One event per line."},
        },
        examples=[OpenApiExample("An event", {"type": "hello", "context": {"who": "world"}}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """Send one event, a list of events, or JSON lines.

        Answer 200 with a reason for each rejected event; the accepted ones are on disk. Answer 400 if no event is
        accepted, and 503 if the journal is full or the ingester does not respond: send the same request again. Events
        with an `id` are never stored twice.
        """
        body = request.data
        receipt = _receive(body if isinstance(body, bytes) else b"")
        if receipt["accepted"]:
            return Response(receipt)
        first = receipt["rejected"][0]["message"] if receipt["rejected"] else "the list is empty"
        return Response(
            {**receipt, **exception_handler.error_body("no_valid_event", f"no event was accepted: {first}")}, status=400
        )

    @openapi.describe(
        {200: serializers.EventPageSerializer},
        400,
        503,
        parameters=[
            openapi.text("type", "Only events of this type."),
            *openapi.RANGE,
            openapi.text("context", "A field of the context and its value, such as project:celery; may be repeated."),
            openapi.text("filter", 'Conditions as JSON, such as {"context.amount": {"$gt": 10}}.'),
            openapi.text("cursor", "`next` of the previous page."),
            openapi.number("limit", "Events per page.", 1, 1000, 100),
        ],
    )
    def get(self, request: Request) -> Response:
        """List stored events, newest id first. Only the id has an index, so a narrow filter can be slow.

        A page of very large events has fewer than `limit`; `next` leads on.
        """
        limit = read_number(request.GET.get("limit", ""), "limit", 1, 1000, 100)
        below = read_cursor(request.GET.get("cursor", ""))
        with AnswerPlace() as place:
            page = stored_events.latest_page(database(), limit, condition=_condition(request), below=below, place=place)
            following = make_cursor(page.events[-1]["_id"]) if page.may_have_more else None
            answer = {"events": page.events, "next": following}
            return Response(EncodedAnswer(compute(page.size_bytes, to_json_in_pieces, answer)))


def _receive(body: bytes) -> dict[str, Any]:
    """Return the receipt for the events in `body`. Raise `WebError` subclasses."""
    try:
        return receiver.send(body)
    except BodyError as error:
        raise BadRequestError(str(error)) from None
    except TooManyDocumentsError as error:
        raise TooLargeError(error.args[1]) from None
    except BusyError as error:
        raise IngestBusyError("the journal is full: send the same again later", **_journalled(error)) from None
    except DeliveryError as error:
        raise UnavailableError(str(error), **_journalled(error)) from None


def _journalled(error: DeliveryError) -> dict[str, Any]:
    """Return the number of events of a large request that were journalled before the error."""
    receipt = error.data.get("receipt")
    return {"accepted": receipt.accepted} if isinstance(receipt, Receipt) and receipt.accepted else {}


def _condition(request: Request) -> dict[str, Any]:
    given = request.GET
    parts: list[dict[str, Any]] = []
    if kind := given.get("type", ""):
        parts.append({"type": kind})
    span = asked_span(given, settings.ZARKOV.time_zone, timezone.now())
    if bounds := {name: moment for name, moment in (("$gte", span.start), ("$lte", span.end)) if moment}:
        parts.append({"timestamp": bounds})
    for pair in given.getlist("context")[:20]:
        name, separator, value = pair.partition(":")
        if not separator:
            raise BadRequestError(f"context = {pair[:60]!r} is not allowed: use NAME:VALUE", parameter="context")
        check_field(name, "context")
        parts.append({f"context.{name}": {"$in": _possible_values(value)}})
    if text := given.get("filter", ""):
        parts.append(read_filter(text, "filter"))
    return {"$and": parts} if parts else {}


def _possible_values(value: str) -> list[Any]:
    """Return the values that a text in a query string can mean: the text, and the number or boolean that it spells."""
    possible: list[Any] = [value]
    try:
        other = json.loads(value)
    except (ValueError, RecursionError):
        return possible
    if isinstance(other, bool | float) or (isinstance(other, int) and -(2**63) <= other < 2**63):
        possible.append(other)
    return possible

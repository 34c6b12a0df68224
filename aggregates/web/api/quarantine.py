"""Serve `quarantine/`: read, mend, replay and delete refused input."""

from __future__ import annotations

import json
import re
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aggregates.services.quarantine import replay_entries
from aggregates.web.api import openapi
from aggregates.web.api.api_view import ApiView
from aggregates.web.api.serializers import ShortListField
from aggregates.web.api.series import AnyAccept
from aggregates.web.auth.access import OPERATE
from aggregates.web.compute_thread import compute
from aggregates.web.exceptions import BadRequestError, IngestBusyError, NotFoundError, UnavailableError, WebError
from aggregates.web.mongo import database
from aggregates.web.series.query_filter import read_number
from aggregates.web.series.time_span import asked_span
from ingest.exceptions import BusyError, DeliveryError
from ingest.load import quarantine_input
from ingest.store import quarantine
from ingest.store.quarantine import KeyFormatError, Selection
from ingest.wire.refusal import unpacked

_FILTER = [
    openapi.text("code", "Only input refused for this reason, such as bad_json."),
    openapi.text("source", "Only input from this receiver: bson, json, ack, http, or store."),
    *openapi.RANGE,
    openapi.text("replayed", "yes or no; by default both."),
]


class EntrySerializer(serializers.Serializer[None]):
    """A quarantine entry: input that was refused."""

    key = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()
    source = serializers.CharField(help_text="The receiver it came through.")  # type: ignore[assignment]
    time = serializers.DateTimeField()
    bytes = serializers.IntegerField(help_text="Length of the input.")
    count = serializers.IntegerField(help_text="Number of refused documents that it stands for.")
    joined = serializers.CharField(
        help_text="How these are told apart: documents, lines, sizes, or cut, which is not at all.", required=False
    )
    raw = serializers.CharField(help_text="The input as base64; absent in lists if it is long.", required=False)
    sha256 = serializers.CharField(help_text="Of input that is too long to be kept.", required=False)
    raw_start = serializers.CharField(help_text="The start of such input, as base64.", required=False)
    replayed = serializers.DateTimeField(allow_null=True, help_text="When it was sent again.")
    by = serializers.CharField(help_text="Who sent it again.", required=False)
    mended = serializers.BooleanField(help_text="Whether a person has mended it.")


@extend_schema_field({"type": "object", "additionalProperties": True, "nullable": True})
class DocumentField(serializers.Field):  # type: ignore[type-arg]
    """A document as MongoDB's extended JSON, or null."""


class WholeEntrySerializer(EntrySerializer):
    """A quarantine entry, and the document that a replay would send."""

    document = DocumentField()
    sizes = serializers.ListField(
        child=serializers.IntegerField(),
        help_text="Of those joined by sizes, in bytes; each is followed by one byte that ends its line.",
        required=False,
    )


class EntriesSerializer(serializers.Serializer[None]):
    """Quarantine entries, newest first."""

    documents = EntrySerializer(many=True)
    next = serializers.CharField(allow_null=True)


class CountSerializer(serializers.Serializer[None]):
    """The number of quarantine entries of one kind, and of the documents that they stand for."""

    code = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    replayed = serializers.BooleanField()
    count = serializers.IntegerField()
    documents = serializers.IntegerField()


class CountsSerializer(serializers.Serializer[None]):
    """The number of quarantine entries of each kind, largest first."""

    counts = CountSerializer(many=True)


class ReplayRequest(serializers.Serializer[None]):
    """The entries to replay: some keys, or all that the query parameters select."""

    keys = ShortListField(child=serializers.CharField(max_length=120), required=False, max_length=1000)
    all = serializers.BooleanField(required=False, help_text="true: all entries that the query parameters select.")
    document = serializers.DictField(
        required=False, help_text="What to send instead, as extended JSON; with a single key only."
    )


class StillRefusedSerializer(serializers.Serializer[None]):
    """The reason why a replayed entry was refused again."""

    key = serializers.CharField()
    message = serializers.CharField()


class OutcomeSerializer(serializers.Serializer[None]):
    """The result of a replay; `refused` has the first 20 entries that were refused, or some of whose documents were."""

    accepted = serializers.IntegerField(help_text="Documents that are in the journal, on disk.")
    refused_count = serializers.IntegerField(help_text="Documents that are still no events.")
    refused = StillRefusedSerializer(many=True)
    left = serializers.IntegerField(help_text="Entries not tried, as the time was up: send the same request again.")


class QuarantineView(ApiView):
    """Quarantine entries: input that was refused and kept."""

    unlimited = True

    @openapi.describe(
        {200: EntriesSerializer},
        400,
        503,
        parameters=[
            *_FILTER,
            openapi.text("cursor", "`next` of the previous page."),
            openapi.number("limit", "Documents per page.", 1, 500, 50),
        ],
        operation_id="quarantine_list",
    )
    def get(self, request: Request) -> Response:
        """List quarantine entries, newest first."""
        limit = read_number(request.GET.get("limit", ""), "limit", 1, 500, 50)
        try:
            found, following = quarantine.page(
                database(), read_selection(request), cursor=request.GET.get("cursor", ""), limit=limit
            )
        except KeyFormatError as error:
            raise BadRequestError(str(error), parameter="cursor") from None
        return Response({"documents": [_entry_document(entry) for entry in found], "next": following})


class QuarantineCountsView(ApiView):
    unlimited = True

    @openapi.describe({200: CountsSerializer}, 400, 503, parameters=_FILTER)
    def get(self, request: Request) -> Response:
        """Count quarantine entries by code, source, and whether they were replayed."""
        found = quarantine.counts(database(), read_selection(request))
        return Response({"counts": [{name: getattr(each, name) for name in each.__slots__} for each in found]})


def _document_to_send(entry: dict[str, Any]) -> Any:
    mended = quarantine_input.mended_of(entry)
    text = "" if mended is None else quarantine_input.as_text(mended)
    return json.loads(text) if text else None


class QuarantineEntryView(ApiView):
    unlimited = True
    needs = {"DELETE": OPERATE}

    @openapi.describe({200: WholeEntrySerializer}, 400, 404, 503)
    def get(self, request: Request, key: str) -> Response:
        """Return the whole entry, and the document that a replay would send."""
        entry = quarantine.find(database(), _key(key))
        if entry is None:
            raise _unknown(key)
        document = compute(len(entry.get("raw", b"")) + len(entry.get("mended", b"")), _document_to_send, entry)
        sizes = {"sizes": unpacked(entry["sizes"])} if "sizes" in entry else {}
        return Response({**_entry_document(entry), **sizes, "document": document})

    @openapi.describe({204: None}, 400, 404, 503)
    def delete(self, request: Request, key: str) -> Response:
        """Delete the entry for good."""
        if not quarantine.delete(database(), [_key(key)]):
            raise _unknown(key)
        return Response(status=204)


class QuarantineRawView(ApiView):
    content_negotiation_class = AnyAccept
    unlimited = True

    @openapi.describe({(200, "application/octet-stream"): OpenApiTypes.BINARY}, 400, 404, 503)
    def get(self, request: Request, key: str) -> HttpResponse:
        """Return the input as it was sent. Answer 404 if it was above 1 MiB: then only its start and hash are kept."""
        entry = quarantine.find(database(), _key(key))
        if entry is None:
            raise _unknown(key)
        if "raw" not in entry:
            raise NotFoundError(
                f"of the {entry.get('bytes', 0)} bytes only the start and the hash were kept, because it is above 1 MiB"
            )
        response = HttpResponse(bytes(entry["raw"]), content_type="application/octet-stream")
        name = re.sub(r"[^\w.-]", "_", quarantine.key_text(entry["_id"]), flags=re.ASCII)
        response["Content-Disposition"] = f'attachment; filename="quarantine-{name}"'
        response["X-Content-Type-Options"] = "nosniff"
        return response


class QuarantineReplayView(ApiView):
    needs = {"POST": OPERATE}

    @openapi.describe({200: OutcomeSerializer}, 400, 503, request=ReplayRequest, parameters=_FILTER)
    def post(self, request: Request) -> Response:
        """Send entries to the ingester again. Replaying an entry twice does not store it twice."""
        asked = ReplayRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        keys, mended = asked.validated_data.get("keys"), asked.validated_data.get("document")
        if bool(keys) == asked.validated_data.get("all", False):
            raise BadRequestError('send either {"keys": [...]} or {"all": true}')
        if mended is not None and len(keys or ()) != 1:
            raise BadRequestError("document is for a single key", parameter="document")
        what = [_key(key) for key in keys] if keys else read_selection(request)
        try:
            made = None if mended is None else quarantine_input.from_text(json.dumps(mended), _original(keys[0]))
        except quarantine_input.MendError as error:
            raise BadRequestError(str(error), parameter="document") from None
        except RecursionError:
            raise BadRequestError("document is nested too deep", parameter="document") from None
        try:
            counts = replay_entries(database(), what, by=_name(request), mended=made)
        except Exception as error:
            raise from_replay_error(error) from error
        return Response(
            {
                "accepted": counts.accepted,
                "refused_count": counts.refused,
                "refused": [{"key": key, "message": message} for key, message in counts.examples],
                "left": counts.left,
            }
        )


def read_selection(request: HttpRequest | Request) -> Selection:
    """Parse the selection in a request's parameters. Raise `BadRequestError` naming the parameter."""
    given = request.GET
    span = asked_span(given, settings.ZARKOV.time_zone, timezone.now())
    replayed = given.get("replayed", "")
    if replayed not in ("", "yes", "no"):
        raise BadRequestError(f"replayed = {replayed[:60]!r} is not allowed: use yes or no", parameter="replayed")
    return Selection(
        given.get("code", ""), given.get("source", ""), span.start, span.end, replayed == "yes" if replayed else None
    )


def from_replay_error(error: Exception) -> Exception:
    """Return the `WebError` for a replay that the ingester did not accept; return other errors unchanged."""
    if isinstance(error, BusyError):
        return IngestBusyError("the journal is full: replay again later")
    if isinstance(error, DeliveryError):
        return UnavailableError(str(error))
    if isinstance(getattr(error, "code", None), str) and not isinstance(error, WebError):
        return UnavailableError(f"no ingester is running: {error}")
    return error


def _key(text: str) -> dict[str, Any]:
    try:
        return quarantine.parse_key(text)
    except KeyFormatError as error:
        raise BadRequestError(str(error), parameter="key") from None


def _unknown(key: str) -> NotFoundError:
    return NotFoundError(f"there is no quarantine entry {key[:120]}: it was removed, or the key is mistyped")


def _name(request: Request) -> str:
    token = getattr(request, "auth", None)
    return str(getattr(token, "name", "") or request.user)


def _original(key: str) -> dict[str, Any] | None:
    entry = quarantine.find(database(), _key(key))
    return None if entry is None else quarantine_input.mended_of(entry)


def _entry_document(entry: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in entry.items() if name not in ("_id", "mended", "sizes", "delivery")}
    return {
        "key": quarantine.key_text(entry["_id"]),
        "replayed": None,
        "count": 1,
        **shown,
        "mended": "mended" in entry,
    }

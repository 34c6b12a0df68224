"""Provide the base class of the API's views, and answers with an ETag."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotModified
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aggregates.web.api.permission import Capability
from aggregates.web.api.renderer import EncodedAnswer
from aggregates.web.compute_thread import compute
from aggregates.web.json_encoding import to_json
from aggregates.web.series.freshness import HEADERS

JsonParts = Mapping[str, Iterable[bytes]]  # pieces of the JSON of each field


class ApiView(APIView):
    """A view of the API, which names the capabilities that it needs."""

    permission_classes = [Capability]
    needs: ClassVar[dict[str, str]] = {}  # capability by HTTP method; `read` for methods that are not listed
    unlimited: ClassVar[bool] = False  # True if tokens limited to some aggregates may not read it
    throttle_scope = "api"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer a request, and keep nothing of it in rings of references.

        The REST framework's view, request and answer refer to each other. Bodies and answers of many megabytes would
        wait for a full garbage collection, which `aggregates.web.compute_thread` postpones under load.
        """
        response = super().dispatch(request, *args, **kwargs)
        del self.response
        asked: Any = self.request
        asked.parser_context = {}
        if asked.method != "GET":
            asked._full_data = asked._data = None
        return response


def with_etag(
    request: Request, freshness: Mapping[str, Any], size_bytes: int, encode: Callable[[], JsonParts]
) -> Response | HttpResponse:
    """Return a document of the JSON that `encode` returns in pieces by field, with an ETag; about `size_bytes` in all.

    Return 304 instead if the client already has it. The ETag leaves out the freshness fields, which change with every
    event; they are in the headers, also of a 304, and in the body.
    """
    data, etag = compute(size_bytes, _encoded, encode)
    known = [part.strip() for part in request.META.get("HTTP_IF_NONE_MATCH", "").split(",")]
    same = etag in known or "*" in known
    answer: Response | HttpResponse = HttpResponseNotModified() if same else Response(data)
    for name, header in HEADERS.items():
        if freshness[name] is not None:
            answer[header] = str(freshness[name])
    answer["ETag"] = etag
    answer["Cache-Control"] = "private, no-cache"
    return answer


def _encoded(encode: Callable[[], JsonParts]) -> tuple[EncodedAnswer, str]:
    """Return the document, and the ETag."""
    digest = hashlib.blake2b(digest_size=12)
    pieces: list[bytes] = []
    for name, part in encode().items():
        pieces += [b", " if pieces else b"{", to_json(name), b": "]
        for piece in part:
            pieces.append(piece)
            if name not in HEADERS:
                digest.update(piece)
    return EncodedAnswer(b"".join([*pieces, b"}"])), f'W/"{digest.hexdigest()}"'

"""Provide the base class of the API's views, and answers with an ETag."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotModified
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aggregates.web.api.permission import Capability
from aggregates.web.api.renderer import EncodedAnswer
from aggregates.web.compute_thread import compute
from aggregates.web.json_encoding import to_json, to_json_in_pieces
from aggregates.web.series.freshness import HEADERS


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


def with_etag(request: Request, state: Mapping[str, Any], size_bytes: int = 0) -> Response | HttpResponse:
    """Return `state`, of about `size_bytes`, with an ETag of its data, or 304 if the client already has them.

    The ETag leaves out the freshness fields, which change with every event; they are in the headers, also of a 304,
    and in the body.
    """
    data, etag = compute(size_bytes, _encoded, state)
    known = [part.strip() for part in request.META.get("HTTP_IF_NONE_MATCH", "").split(",")]
    same = etag in known or "*" in known
    answer: Response | HttpResponse = HttpResponseNotModified() if same else Response(data)
    for name, header in HEADERS.items():
        if state[name] is not None:
            answer[header] = str(state[name])
    answer["ETag"] = etag
    answer["Cache-Control"] = "private, no-cache"
    return answer


def _encoded(state: Mapping[str, Any]) -> tuple[EncodedAnswer, str]:
    """Return the state with its JSON, and the ETag."""
    parts = {name: to_json(name) + b": " + to_json_in_pieces(value) for name, value in state.items()}
    digest = hashlib.blake2b(digest_size=12)
    for name, part in parts.items():
        if name not in HEADERS:
            digest.update(part)
    return EncodedAnswer(b"{" + b", ".join(parts.values()) + b"}"), f'W/"{digest.hexdigest()}"'

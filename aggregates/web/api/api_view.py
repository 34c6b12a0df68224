"""Base of the API's views: rights, and answers with an ETag."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aggregates.web.api.permission import Capability
from aggregates.web.auth.access import Rights, rights_of
from aggregates.web.json_encoding import to_json

# Fields of an answer that show how current it is, and their headers.
FRESHNESS: Final = {"through": "X-Zarkov-Through", "complete_through": "X-Zarkov-Complete-Through"}


class ApiView(APIView):
    """Base of the API's views."""

    permission_classes = [Capability]
    needs: ClassVar[dict[str, str]] = {}  # capability by HTTP method; `read` for methods that are not listed
    unlimited: ClassVar[bool] = False  # True if answers show more than one aggregate: closed to limited tokens
    throttle_scope = "api"

    def rights(self, request: Request | HttpRequest) -> Rights:
        return rights_of(request)


def with_etag(request: Request, state: Mapping[str, Any]) -> Response | HttpResponse:
    """Return `state` with an ETag of its data, or 304 if the client already has them.

    The ETag leaves out the `FRESHNESS` fields, which change with every event; they are in the headers, also of a 304,
    and in the body.
    """
    version = to_json({name: value for name, value in state.items() if name not in FRESHNESS})
    etag = f'W/"{hashlib.blake2b(version, digest_size=12).hexdigest()}"'
    known = [part.strip() for part in request.META.get("HTTP_IF_NONE_MATCH", "").split(",")]
    same = etag in known or "*" in known
    answer: Response | HttpResponse = HttpResponseNotModified() if same else Response(state)
    for name, header in FRESHNESS.items():
        if state[name] is not None:
            answer[header] = str(state[name])
    answer["ETag"] = etag
    answer["Cache-Control"] = "private, no-cache"
    return answer

"""What all views of the API share: rights, and answers with an ETag."""

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

# Parts of an answer that say how current it is, and their headers.
FRESHNESS: Final = {"through": "X-Zarkov-Through", "complete_through": "X-Zarkov-Complete-Through"}


class ApiView(APIView):
    """Base of the API's views. Reading needs `read` unless `needs` says otherwise for a method."""

    permission_classes = [Capability]
    needs: ClassVar[dict[str, str]] = {}
    unlimited: ClassVar[bool] = False  # shows more than single aggregates, so closed to tokens limited to some
    throttle_scope = "api"

    def rights(self, request: Request | HttpRequest) -> Rights:
        """What this request may do."""
        return rights_of(request)


def with_etag(request: Request, state: Mapping[str, Any]) -> Response | HttpResponse:
    """`state` with an ETag of its data, or 304 when the client has them.

    How current they are moves on with every event and is no reason to send the same data again: it is in the headers,
    of a 304 too, and in the body.
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

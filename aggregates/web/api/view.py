"""What all views of the API share: rights, and answers with an ETag."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aggregates.web.access import Rights, rights_of
from aggregates.web.api.permission import Capability


class ApiView(APIView):
    """Base of the API's views. Reading needs `read` unless `needs` says otherwise for a method."""

    permission_classes = [Capability]
    needs: ClassVar[dict[str, str]] = {}
    unlimited: ClassVar[bool] = False  # shows more than single aggregates, so closed to tokens limited to some
    throttle_scope = "api"

    def rights(self, request: Request | HttpRequest) -> Rights:
        """What this request may do."""
        return rights_of(request)


def with_etag(request: Request, response: Response, version: bytes) -> Response | HttpResponse:
    """`response` with an ETag of `version`, or 304 when that is what the client has."""
    etag = f'W/"{hashlib.blake2b(version, digest_size=12).hexdigest()}"'
    known = [part.strip() for part in request.META.get("HTTP_IF_NONE_MATCH", "").split(",")]
    answer: Response | HttpResponse = HttpResponseNotModified() if etag in known or "*" in known else response
    answer["ETag"] = etag
    answer["Cache-Control"] = "private, no-cache"
    return answer

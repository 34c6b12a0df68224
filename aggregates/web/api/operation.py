"""`jobs/` and `quarantine/`: what the engine works on, and input that could not be taken."""

from __future__ import annotations

from typing import Any

from bson import ObjectId
from bson.errors import InvalidId
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aggregates.web.api import document
from aggregates.web.api.read import read_number
from aggregates.web.api.view import ApiView
from aggregates.web.exceptions import BadRequestError
from aggregates.web.mongo import QUERY_LIMIT_MS, database

_HIDDEN_OF_JOBS = {"spec": 0, "splits": 0, "parts": 0}


class JobsShape(serializers.Serializer[None]):
    """Map-reduce jobs, newest first."""

    jobs = serializers.ListField(child=serializers.DictField())


class QuarantineShape(serializers.Serializer[None]):
    """Input that is no event, newest first; `raw` is base64."""

    documents = serializers.ListField(child=serializers.DictField())
    next = serializers.CharField(allow_null=True)


class JobsView(ApiView):
    """The engine's jobs."""

    unlimited = True

    @document.describe(
        {200: JobsShape},
        400,
        503,
        parameters=[
            document.text("state", "Only jobs in this state, such as map or error."),
            document.number("limit", "Jobs at most.", 1, 500, 50),
        ],
    )
    def get(self, request: Request) -> Response:
        """Newest first, from their records."""
        condition = {"state": state} if (state := request.GET.get("state", "")) else {}
        limit = read_number(request.GET.get("limit", ""), "limit", 1, 500, 50)
        found = database()["zmr.job"].find(condition, _HIDDEN_OF_JOBS).sort("created", -1).limit(limit)
        return Response({"jobs": [_job(job) for job in found.max_time_ms(QUERY_LIMIT_MS)]})


class QuarantineView(ApiView):
    """Input that was refused and kept."""

    unlimited = True

    @document.describe(
        {200: QuarantineShape},
        400,
        503,
        parameters=[
            document.text("code", "Only input refused for this reason, such as bad_json."),
            document.text("cursor", "`next` of the page before."),
            document.number("limit", "Documents per page.", 1, 500, 50),
        ],
    )
    def get(self, request: Request) -> Response:
        """Newest first."""
        condition: dict[str, Any] = {}
        if code := request.GET.get("code", ""):
            condition["code"] = code
        if cursor := request.GET.get("cursor", ""):
            condition["_id"] = {"$lt": _object_id(cursor, "cursor")}
        limit = read_number(request.GET.get("limit", ""), "limit", 1, 500, 50)
        rows = database()["quarantine"].find(condition).sort("_id", -1).limit(limit + 1).max_time_ms(QUERY_LIMIT_MS)
        found = list(rows)
        following = str(found[limit - 1]["_id"]) if len(found) > limit else None
        return Response({"documents": found[:limit], "next": following})


def _job(job: dict[str, Any]) -> dict[str, Any]:
    return {"job_id": job["_id"], **{name: value for name, value in job.items() if name != "_id"}}


def _object_id(text: str, parameter: str) -> ObjectId:
    try:
        return ObjectId(text)
    except InvalidId:
        raise BadRequestError(f"{parameter} = {text[:60]!r} is none", parameter=parameter) from None

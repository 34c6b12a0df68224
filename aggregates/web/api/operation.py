"""`jobs/`: what the engine works on."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aggregates.web.api import document
from aggregates.web.api.read import read_number
from aggregates.web.api.view import ApiView
from aggregates.web.mongo import QUERY_LIMIT_MS, database

_HIDDEN_OF_JOBS = {"spec": 0, "splits": 0, "parts": 0}


class JobsShape(serializers.Serializer[None]):
    """Map-reduce jobs, newest first."""

    jobs = serializers.ListField(child=serializers.DictField())


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


def _job(job: dict[str, Any]) -> dict[str, Any]:
    return {"job_id": job["_id"], **{name: value for name, value in job.items() if name != "_id"}}

"""Serve `jobs/`: list the engine's job records, and cancel jobs."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aggregates.process_connections import process_connections
from aggregates.web.api import openapi
from aggregates.web.api.api_view import ApiView
from aggregates.web.auth.access import OPERATE
from aggregates.web.exceptions import BadRequestError, ConflictError, NotFoundError, UnavailableError
from aggregates.web.mongo import database
from aggregates.web.series.query_filter import read_number
from mapreduce.engine.engine_status import JobListing, list_jobs
from mapreduce.exceptions import MapReduceError, RouterUnreachableError
from mapreduce.job.spec import END_STATES, RUNNING_STATES, UNKNOWN

STATES = (*RUNNING_STATES, *END_STATES)


class JobErrorSerializer(serializers.Serializer[None]):
    """The reason why a job failed."""

    code = serializers.CharField()
    message = serializers.CharField()
    details = serializers.DictField(required=False)


class JobSerializer(serializers.Serializer[None]):
    """One map-reduce job."""

    job_id = serializers.CharField()
    kind = serializers.CharField(help_text="mapreduce, or basic: one call of a function.")
    state = serializers.ChoiceField(STATES)
    created = serializers.DateTimeField()
    ended = serializers.DateTimeField(allow_null=True)
    functions = serializers.ListField(child=serializers.CharField())
    outputs = serializers.ListField(child=serializers.CharField(), help_text="Collections that it writes.")
    progress = serializers.DictField(help_text="Counts, such as splits and splits_done (docs/mapreduce.md)")
    error = JobErrorSerializer(allow_null=True)
    traceback = serializers.CharField(allow_null=True)


class JobsSerializer(serializers.Serializer[None]):
    """Map-reduce jobs, newest first."""

    jobs = JobSerializer(many=True)


class JobsView(ApiView):
    unlimited = True

    @openapi.describe(
        {200: JobsSerializer},
        400,
        503,
        parameters=[
            openapi.text("state", "Only jobs in this state, such as map or error.", enum=list(STATES)),
            openapi.number("limit", "Maximum number of jobs.", 1, 500, 50),
        ],
        operation_id="jobs_list",
    )
    def get(self, request: Request) -> Response:
        """List jobs, newest first. The engine updates their records once a second."""
        state = request.GET.get("state", "")
        if state and state not in STATES:
            raise BadRequestError(f"state = {state[:60]!r} is unknown: use {', '.join(STATES)}", parameter="state")
        limit = read_number(request.GET.get("limit", ""), "limit", 1, 500, 50)
        found = list_jobs(database(), limit, [state] if state else None)
        return Response({"jobs": [job_document(job) for job in found]})


class JobView(ApiView):
    unlimited = True

    @openapi.describe({200: JobSerializer}, 404, 503)
    def get(self, request: Request, job_id: str) -> Response:
        """Return the job with its state and progress; with error and traceback if it failed."""
        return Response(job_document(find_job(database(), job_id)))


class JobCancelView(ApiView):
    needs = {"POST": OPERATE}
    unlimited = True

    @openapi.describe({200: JobSerializer}, 404, 409, 503, request=None)
    def post(self, request: Request, job_id: str) -> Response:
        """Cancel the job. Its output stays; if it belongs to a run, the aggregate may need a full run afterwards.

        Answer 409 if the job has ended, and 503 if no router responds.
        """
        found = find_job(database(), job_id)
        if not found.running:
            raise ConflictError(f"job {job_id[:60]!r} has already ended in state {found.state}")
        return Response({**job_document(found), **cancel(job_id)})


def find_job(source: Database[Any], job_id: str) -> JobListing:
    """Return the record of a job. Raise `NotFoundError`."""
    found = list_jobs(source, 1, job_id=job_id)
    if not found:
        raise NotFoundError(f"there is no job {job_id[:60]!r}; ended ones are kept for 14 days")
    return found[0]


def cancel(job_id: str) -> dict[str, Any]:
    """Cancel a job, return its state and progress. Raise `UnavailableError`, `ConflictError` or `NotFoundError`."""
    try:
        status = process_connections().engine.cancel(job_id)
    except RouterUnreachableError as error:
        raise UnavailableError(error.message) from None
    except MapReduceError as error:
        raise ConflictError(error.message) from None
    if status.state == UNKNOWN:
        raise NotFoundError(f"the router knows no job {job_id[:60]!r}")
    return {"state": status.state, "progress": dict(status.progress)}


def job_document(job: JobListing) -> dict[str, Any]:
    """Return a job in the form of `JobSerializer`."""
    return {name: getattr(job, name) for name in JobSerializer._declared_fields}

"""Serve `aggdefs/`, `runs/` and `tasks/`. All changes go through `aggregates.services`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any

from django.db.models import TextField
from django.db.models.functions import Cast, Length
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aggregates import services
from aggregates.definition.definition import MOST_INPUTS
from aggregates.definition.fields import FIELDS
from aggregates.exceptions import DefinitionError
from aggregates.models import AggDef, Run, TaskSwitch
from aggregates.task_code.registry import discover
from aggregates.task_modules import task_modules
from aggregates.web.api import openapi
from aggregates.web.api.api_view import ApiView
from aggregates.web.api.pagination import newest_page
from aggregates.web.api.renderer import EncodedAnswer
from aggregates.web.api.serializers import ShortListField
from aggregates.web.auth.access import EDIT, OPERATE
from aggregates.web.compute_thread import AnswerPlace, compute
from aggregates.web.exceptions import ConflictError, NotFoundError
from aggregates.web.json_encoding import to_json_in_pieces
from aggregates.web.series.document_reader import MAX_BYTES, ByteLimit
from aggregates.web.series.query_filter import read_number
from ingest.turn import sleeping_turn

STATE_FIELDS = (
    "state", "last_id", "last_run", "complete_through", "generation", "outputs", "full_due", "last_error", "failures",
    "skipped_count", "created", "changed",
)  # fmt: skip

_AT_ONCE = 20  # definitions that are read from the database
_ROW_BYTES = 700  # about the JSON of a definition, without its `_LARGE_FIELDS`
_LARGE_FIELDS = ("description", "params", "inputs", "filter", "last_error")


class AggDefSerializer(serializers.ModelSerializer[AggDef]):
    """An aggregate definition, and the state of its output."""

    class Meta:
        model = AggDef
        fields = ("name", *FIELDS, *STATE_FIELDS)
        read_only_fields = STATE_FIELDS
        extra_kwargs = {
            "name": {"validators": []},
            "task_name": {"required": True, "allow_blank": False},
            "interval_s": {"min_value": 1},
            "settle_s": {"min_value": 0},
            "description": {
                "error_messages": {"max_length": "%(show_value)d characters: at most {max_length} are allowed."}
            },
        }

    inputs = ShortListField(child=serializers.CharField(), required=False, min_length=1, max_length=MOST_INPUTS)
    params = serializers.DictField(required=False)
    filter = serializers.DictField(required=False)

    def to_internal_value(self, data: Any) -> Any:
        """Refuse what the fields would read as a number, as Python does: true, and texts such as `1_000`."""
        for name in ("interval_s", "settle_s"):
            given = data.get(name) if isinstance(data, dict) else None
            if isinstance(given, str | bool):
                shown, kind = (f"{given!r:.60}", "text") if isinstance(given, str) else (str(given).lower(), "boolean")
                raise serializers.ValidationError({name: [f"{shown} is a {kind}: write a number without quotes."]})
        return super().to_internal_value(data)


class AggDefsSerializer(serializers.Serializer[None]):
    """All aggregate definitions."""

    aggdefs = AggDefSerializer(many=True)


class RunRequestSerializer(serializers.Serializer[None]):
    """The kind of run to start."""

    mode = serializers.ChoiceField(["incremental", "full"], default="incremental")
    force = serializers.BooleanField(
        default=False, help_text="Start a full run even if events that it needs are gone: their results are lost."
    )


class RunStartedSerializer(serializers.Serializer[None]):
    """The run that was started."""

    run = serializers.CharField()


class RunSerializer(serializers.Serializer[None]):
    """One execution of an aggregate definition."""

    run = serializers.CharField()
    aggdef = serializers.CharField()
    mode = serializers.CharField()
    state = serializers.ChoiceField(Run.State.choices)
    origin = serializers.CharField()
    start = serializers.IntegerField(allow_null=True)
    through = serializers.IntegerField(allow_null=True)
    docs_in = serializers.IntegerField()
    keys = serializers.IntegerField()
    skipped = serializers.IntegerField()
    duration_s = serializers.FloatField()
    jobs = serializers.ListField(child=serializers.CharField())
    error = serializers.CharField(allow_blank=True)
    traceback = serializers.CharField(allow_blank=True)
    created = serializers.DateTimeField()
    started = serializers.DateTimeField(allow_null=True)
    finished = serializers.DateTimeField(allow_null=True)


class RunPageSerializer(serializers.Serializer[None]):
    """Runs, newest first."""

    runs = RunSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class TaskSerializer(serializers.Serializer[None]):
    """A task that aggregate definitions can use."""

    task_name = serializers.CharField()
    doc = serializers.CharField(allow_blank=True)
    enabled = serializers.BooleanField()
    used_by = serializers.ListField(child=serializers.CharField())


class TaskModuleSerializer(serializers.Serializer[None]):
    """A module of tasks that cannot be imported."""

    module = serializers.CharField()
    error = serializers.CharField()


class TasksSerializer(serializers.Serializer[None]):
    """All tasks, and the modules that cannot be imported."""

    tasks = TaskSerializer(many=True)
    broken = TaskModuleSerializer(many=True)


class AggDefsView(ApiView):
    """All aggregate definitions."""

    needs = {"POST": EDIT}
    unlimited = True

    @openapi.describe({200: AggDefsSerializer}, 413, operation_id="aggdefs_list")
    def get(self, request: Request) -> Response:
        """List all aggregate definitions, by name. Answer 413 if they are too large together."""
        with AnswerPlace() as place:
            size = ByteLimit(MAX_BYTES, place, advice="ask for one definition at a time, by its name")
            texts = list(_encoded_definitions(size))
            return Response(EncodedAnswer(compute(size.size_bytes, _listed, texts)))

    @openapi.describe({201: AggDefSerializer}, 400, 409, request=AggDefSerializer)
    def post(self, request: Request) -> Response:
        """Create an aggregate definition. Answer 409 if the name is taken."""
        serializer = AggDefSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        name = serializer.validated_data["name"]
        if AggDef.objects.filter(name=name).exists():
            raise ConflictError(f"an aggregate named {name!r} exists: change it by PATCH, or choose another name")
        made = services.define(**serializer.validated_data)
        return Response(AggDefSerializer(made).data, status=201)


def _encoded_definitions(size: ByteLimit) -> Iterator[bytes]:
    """Yield the JSON of each definition, by name, with pauses: one may have a megabyte."""
    stored = [Length(Cast(name, TextField())) for name in _LARGE_FIELDS]
    aggdefs: Iterator[Any] = AggDef.objects.annotate(stored_chars=reduce(add, stored)).iterator(_AT_ONCE)
    serializer, turn = AggDefSerializer(), sleeping_turn()
    for aggdef in aggdefs:
        found = serializer.to_representation(aggdef)
        text = compute(_ROW_BYTES + aggdef.stored_chars, to_json_in_pieces, found)
        size.take(len(text))
        yield text
        turn()


def _listed(texts: list[bytes]) -> bytes:
    return b'{"aggdefs": [' + b", ".join(texts) + b"]}"


class AggDefView(ApiView):
    needs = {"PUT": EDIT, "PATCH": EDIT, "DELETE": EDIT}
    unlimited = True

    @openapi.describe({200: AggDefSerializer}, 404)
    def get(self, request: Request, name: str) -> Response:
        """Return the definition, and the state of its output."""
        return Response(AggDefSerializer(services.get_aggdef(name)).data)

    @openapi.describe({200: AggDefSerializer}, 400, 404, request=AggDefSerializer)
    def put(self, request: Request, name: str) -> Response:
        """Change the definition; fields that are not given keep their values."""
        return self._change(request, name, partial=False)

    @openapi.describe({200: AggDefSerializer}, 400, 404, request=AggDefSerializer)
    def patch(self, request: Request, name: str) -> Response:
        """Change some fields of the definition."""
        return self._change(request, name, partial=True)

    @openapi.describe({204: None}, 400, 404, 409, 503)
    def delete(self, request: Request, name: str) -> Response:
        """Delete the definition and its results."""
        services.remove(services.get_aggdef(name))
        return Response(status=204)

    def _change(self, request: Request, name: str, *, partial: bool) -> Response:
        aggdef = services.get_aggdef(name)
        serializer = AggDefSerializer(aggdef, data=request.data, partial=partial)
        serializer.is_valid(raise_exception=True)
        fields = dict(serializer.validated_data)
        if fields.pop("name", name) != name:
            raise DefinitionError("name cannot be changed: create another aggregate", "name")
        return Response(AggDefSerializer(services.define(name=name, **fields)).data)


class AggDefRunView(ApiView):
    """Runs of one aggregate definition."""

    needs = {"POST": OPERATE}
    unlimited = True

    @openapi.describe({202: RunStartedSerializer}, 400, 404, request=RunRequestSerializer)
    def post(self, request: Request, name: str) -> Response:
        """Start a run. Poll `runs/<run>/` for its state."""
        serializer = RunRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        run = services.start_run(services.get_aggdef(name), **serializer.validated_data)
        return Response({"run": run.uid}, status=202)


class RunsView(ApiView):
    """Runs of all aggregate definitions."""

    unlimited = True

    @openapi.describe(
        {200: RunPageSerializer},
        400,
        parameters=[
            openapi.text("aggdef", "Only runs of this aggregate."),
            openapi.text("state", "Only runs in this state."),
            openapi.text("cursor", "`next` of the previous page."),
            openapi.number("limit", "Runs per page.", 1, 500, 50),
        ],
        operation_id="runs_list",
    )
    def get(self, request: Request) -> Response:
        """List runs, newest first."""
        rows = Run.objects.select_related("aggdef")
        if name := request.GET.get("aggdef", ""):
            rows = rows.filter(aggdef__name=name)
        if state := request.GET.get("state", ""):
            rows = rows.filter(state=state)
        limit = read_number(request.GET.get("limit", ""), "limit", 1, 500, 50)
        found, following = newest_page(rows, request.GET.get("cursor", ""), limit)
        return Response({"runs": [run.document() for run in found], "next": following})


class RunView(ApiView):
    unlimited = True

    @openapi.describe({200: RunSerializer}, 404)
    def get(self, request: Request, uid: str) -> Response:
        """Return the run. Its state is planned, running, complete, error or cancelled; a failed run has a traceback."""
        return Response(find_run(uid).document())


class RunCancelView(ApiView):
    needs = {"POST": OPERATE}
    unlimited = True

    @openapi.describe({200: RunSerializer}, 404, 409, 503, request=None)
    def post(self, request: Request, uid: str) -> Response:
        """Cancel the run. Answer 409 if it has ended."""
        return Response(services.cancel_run(find_run(uid)).document())


class TasksView(ApiView):
    """Tasks that aggregate definitions can use."""

    unlimited = True

    @openapi.describe({200: TasksSerializer})
    def get(self, request: Request) -> Response:
        """List all tasks that were found, and the modules that cannot be imported."""
        reports = discover(task_modules())
        off = set(TaskSwitch.objects.filter(enabled=False).values_list("task_name", flat=True))
        used: dict[str, list[str]] = {}
        for name, task_name in AggDef.objects.values_list("name", "task_name"):
            used.setdefault(task_name, []).append(name)
        tasks: list[dict[str, Any]] = [
            {
                "task_name": task.path,
                "doc": task.doc,
                "enabled": task.path not in off,
                "used_by": used.get(task.path, []),
            }
            for report in reports
            for task in report.tasks
        ]
        broken = [{"module": report.name, "error": report.error} for report in reports if report.error]
        return Response({"tasks": tasks, "broken": broken})


def find_run(uid: str) -> Run:
    """Return the run with this uid. Raise `NotFoundError`."""
    run = Run.objects.select_related("aggdef").filter(uid=uid).first()
    if run is None:
        raise NotFoundError(f"there is no run {uid[:60]!r}")
    return run

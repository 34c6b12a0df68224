"""The history of runs, for people: requests and results. MongoDB holds the state that runs rely on."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from aggregates.models.aggdef import LONG_FIELDS as LONG_FIELDS_OF_AGGDEF
from aggregates.models.aggdef import AggDef
from aggregates.run.position import new_uid  # the first migrations name it as `aggregates.models.run.new_uid`

# which lists do not show
LONG_FIELDS = ("traceback", "job_ids", *(f"aggdef__{name}" for name in LONG_FIELDS_OF_AGGDEF))


class RunQuerySet(models.QuerySet["Run"]):
    def open(self) -> RunQuerySet:
        """Return those that are requested and not finished."""
        return self.filter(state__in=(Run.State.PLANNED, Run.State.RUNNING))


class Run(models.Model):
    """One run requested by a person, schedule or program; or an hour of realtime refreshes of one aggregate."""

    class Mode(models.TextChoices):
        INCREMENTAL = "incremental", "incremental"
        FULL = "full", "full"
        REBUILD = "rebuild", "rebuild of a range"
        VERIFY = "verify", "verification"

    class State(models.TextChoices):
        PLANNED = "planned", "planned"
        RUNNING = "running", "running"
        COMPLETE = "complete", "complete"
        ERROR = "error", "error"
        CANCELLED = "cancelled", "cancelled"

    class Origin(models.TextChoices):
        COMMAND = "command", "command line"
        ADMIN = "admin", "admin"
        API = "api", "REST"
        SCHEDULE = "schedule", "schedule"
        REALTIME = "realtime", "realtime"

    uid = models.CharField(max_length=32, unique=True, default=new_uid, editable=False)
    aggdef = models.ForeignKey(AggDef, on_delete=models.CASCADE, related_name="runs")
    mode = models.CharField(max_length=12, choices=Mode.choices)
    origin = models.CharField(max_length=10, choices=Origin.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PLANNED)
    force = models.BooleanField(default=False)  # allows a full run although events in the aggregate are gone
    since = models.DateTimeField(null=True, blank=True)  # rebuild only
    until = models.DateTimeField(null=True, blank=True)

    created = models.DateTimeField(auto_now_add=True)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)
    seen = models.DateTimeField(null=True, blank=True)  # last sign of life of its holder
    holder = models.CharField(max_length=200, blank=True)  # the process that performs it, named as in its lease

    start_id = models.BigIntegerField(null=True, blank=True)  # events above this one ...
    through = models.BigIntegerField(null=True, blank=True)  # ... up to and including this one
    generation = models.PositiveIntegerField(null=True, blank=True)
    docs_in = models.PositiveBigIntegerField("events read", default=0)
    keys = models.PositiveBigIntegerField("keys written", default=0)
    skipped_count = models.PositiveBigIntegerField("events skipped", default=0)
    refreshes = models.PositiveIntegerField(default=0)  # of a realtime hour
    duration_s = models.FloatField("duration (s)", default=0)
    cpu_s = models.FloatField("CPU time (s)", default=0)
    job_ids = models.JSONField(default=list, blank=True)
    code = models.CharField("version of the task", max_length=32, blank=True)
    note = models.TextField(blank=True)  # what it did, in a sentence
    error = models.TextField(blank=True)
    traceback = models.TextField(blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["aggdef", "-id"], name="run_of_aggdef"),
            models.Index(fields=["state", "-id"], name="run_by_state"),
            models.Index(fields=["created"], name="run_open", condition=Q(state__in=("planned", "running"))),
        ]
        constraints = [
            models.CheckConstraint(
                condition=~Q(mode="rebuild") | Q(since__isnull=False, until__isnull=False), name="run_rebuild_has_range"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_mode_display()} {self.uid}, {self.get_state_display()}"

    @property
    def is_open(self) -> bool:
        return self.state in (self.State.PLANNED, self.State.RUNNING)

    @property
    def holder_label(self) -> str:
        """Return the machine and process that perform it, for people."""
        machine, _, rest = self.holder.partition("@")
        return f"{machine}, process {rest.split('|')[1]}" if rest.count("|") > 1 else self.holder

    @property
    def summary(self) -> str:
        """Return what it did, or why it failed, in at most 80 characters."""
        refreshes = f"{self.refreshes} refresh{'es' if self.refreshes > 1 else ''}" if self.refreshes else ""
        text = (self.error or self.note or refreshes).removeprefix(f"{self.aggdef.name}: ")
        return text if len(text) <= 80 else f"{text[:79]}…"

    def document(self) -> dict[str, Any]:
        return {
            "run": self.uid,
            "aggdef": self.aggdef.name,
            "mode": self.mode,
            "state": self.state,
            "origin": self.origin,
            "start": self.start_id,
            "through": self.through,
            "docs_in": self.docs_in,
            "keys": self.keys,
            "skipped": self.skipped_count,
            "duration_s": self.duration_s,
            "jobs": self.job_ids,
            "error": self.error,
            "traceback": self.traceback,
            "created": self.created,
            "started": self.started,
            "finished": self.finished,
        }

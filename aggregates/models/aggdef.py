"""The aggregate definition: fields set by people, and a copy of its state for lists and forms."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Cast
from django.dispatch import Signal
from django.urls import reverse

from aggregates.definition import definition as rules
from aggregates.definition.definition import Definition
from aggregates.definition.fields import (
    MOST_DESCRIPTION_CHARS,
    SWITCHES,
    TEXTS,
    check_collection,
    check_plain,
    check_zone,
)
from aggregates.definition.lineage import DefinitionNode, check_lineage, read_aggregates
from aggregates.exceptions import AggregateError, DefinitionError
from aggregates.models.crontab import check_crontab, split_crontab


def default_inputs() -> list[str]:
    """Return the inputs of a new definition: events."""
    return [rules.EVENT]


aggdefs_deleting = Signal()  # sent with `aggdefs` before a deletion; a receiver prevents it by raising

# Which lists do not show: each may have hundreds of kilobytes.
LONG_FIELDS = ("description", "params", "filter", "inputs", "outputs", "last_error", "last_traceback", "verification")


class AggDefQuerySet(models.QuerySet["AggDef"]):
    def without_large_fields(self) -> AggDefQuerySet:
        """Return the same ones, without what may have hundreds of kilobytes each; it is read where it is used."""
        return self.defer(*LONG_FIELDS)

    def realtime(self) -> AggDefQuerySet:
        """Return those that `runaggregator` keeps current."""
        return self.filter(enabled=True, realtime=True)

    def readers_of(self, *aggdefs: AggDef) -> AggDefQuerySet:
        """Return those, apart from `aggdefs` themselves, that read an output of one of `aggdefs`."""
        others = self.exclude(pk__in=[aggdef.pk for aggdef in aggdefs]).exclude(inputs=[rules.EVENT])
        readers = [reader.pk for reader in others.only("pk", "inputs") if any(reader.reads(read) for read in aggdefs)]
        return self.filter(pk__in=readers)

    def possible_owners(self, output: str) -> list[DefinitionNode]:
        """Return all definitions that may fill `output`; a few of them may not."""
        above = [output[:at] for at, letter in enumerate(output) if letter == "."]
        full = [f"{rules.OUTPUT_PREFIX}{name}" for name in (output, *above)]
        named = Q(output="", name__in=[output, *above]) | Q(output__in=[output, *above, *full])
        known = self.annotate(listed=Cast("outputs", models.TextField()))
        found = known.filter(named | Q(listed__contains=f'"{output}"') | Q(listed__contains='*"'))
        return [aggdef.lineage_node() for aggdef in found.only("name", "output", "outputs", "inputs")]

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete all of them or none, as `AggDef.delete` does. They may read each other."""
        gone = list(self)
        aggdefs_deleting.send(AggDef, aggdefs=gone)
        return models.QuerySet(AggDef).filter(pk__in=[aggdef.pk for aggdef in gone]).delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class AggDef(models.Model):
    """An aggregate definition. Its position is in MongoDB, `agg.position`; the fields here are copies."""

    class State(models.TextChoices):
        NEW = "new", "not run yet"
        OK = "ok", "current"
        FAILING = "failing", "failing"
        FULL_DUE = "full_due", "waits for a full run"

    name = models.CharField(
        max_length=100,
        unique=True,
        help_text="Letters, digits, _, - and dots, such as commits_by_day. It cannot be changed later.",
    )
    description = models.TextField(
        blank=True, max_length=MOST_DESCRIPTION_CHARS, help_text="What is counted, for those who read the numbers."
    )
    task_name = models.CharField(
        "task",
        max_length=255,
        blank=True,
        help_text="Dotted path of the task class, such as aggregates.agg_tasks.CommitsByDay.",
    )
    zql = models.TextField("ZQL", blank=True, help_text="Not available yet: write a task instead.")
    params = models.JSONField(
        "parameters",
        default=dict,
        blank=True,
        help_text='Keyword arguments of the task, such as {"project": "celery"}.',
    )
    inputs = models.JSONField(
        default=default_inputs,
        help_text='["event"], or another collection as ["database.collection"], or aggregates as ["zagg.name"].',
    )
    id_key = models.CharField(
        "increasing key",
        max_length=100,
        default="_id",
        help_text="For inputs other than events: an indexed field whose values only grow.",
    )
    settle_s = models.FloatField(
        "settling time (s)",
        default=0,
        help_text="For such inputs: how long after a document appears others with a lower key may still come.",
    )
    filter = models.JSONField(
        default=dict,
        blank=True,
        help_text='Which events, as a MongoDB filter, such as {"type": "commit"}. Empty = all.',
    )
    output = models.CharField(
        max_length=110,
        blank=True,
        help_text="Where the results go, such as zagg.commits_by_day. Empty = zagg. and the name.",
    )
    realtime = models.BooleanField(
        default=False, help_text="Kept current all the time: new events show within a second."
    )
    interval_s = models.PositiveIntegerField(
        "run every (s)", null=True, blank=True, help_text="Seconds between two runs, such as 3600. Empty = no interval."
    )
    crontab = models.CharField(
        max_length=100,
        blank=True,
        validators=[check_crontab],
        help_text="Minute, hour, day of month, month, day of week, such as 15 3 * * * (daily at 3:15). "
        "Empty = no schedule.",
    )
    crontab_zone = models.CharField(
        "time zone of the schedule",
        max_length=64,
        blank=True,
        help_text="Such as Europe/Berlin. Empty = that of the configuration.",
    )
    on_error = models.CharField(
        max_length=10,
        blank=True,
        choices=[("", "as the task says"), ("fail", "stop and wait for a person"), ("skip", "skip it, keep its id")],
        help_text="What happens when the map fails on an event.",
    )
    enabled = models.BooleanField(default=True, help_text="A paused aggregate is run only by hand.")

    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)

    # Copies of the state in MongoDB
    state = models.CharField(max_length=10, choices=State.choices, default=State.NEW, editable=False)
    last_id = models.BigIntegerField("through", null=True, editable=False, help_text="The last event id it contains.")
    last_key = models.CharField(max_length=100, blank=True, editable=False)  # the same for inputs without integer ids
    last_run = models.DateTimeField(null=True, editable=False)
    complete_through = models.DateTimeField(null=True, editable=False)
    generation = models.PositiveIntegerField(default=0, editable=False)
    outputs = models.JSONField(default=list, editable=False)
    full_due = models.CharField("full run due", max_length=300, blank=True, editable=False)
    last_error = models.TextField(blank=True, editable=False)
    last_traceback = models.TextField(blank=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)  # in a row
    skipped_count = models.PositiveBigIntegerField(default=0, editable=False)
    verified = models.DateTimeField("last verified", null=True, editable=False)
    verification = models.TextField("last verification", blank=True, editable=False)
    verified_ok = models.BooleanField(null=True, editable=False)
    raised_alerts = models.JSONField(default=list, editable=False, db_column="told")  # kinds that have not recovered

    objects = AggDefQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = "aggregate"
        verbose_name_plural = "aggregates"
        permissions = [("operate_aggdef", "Can run, cancel and verify aggregates")]
        constraints = [
            models.CheckConstraint(
                condition=Q(interval_s__isnull=True) | Q(crontab=""),
                name="aggdef_interval_or_crontab",
                violation_error_message="Give an interval or a crontab, not both.",
            ),
            models.CheckConstraint(condition=Q(settle_s__gte=0), name="aggdef_settle_s_not_negative"),
        ]
        indexes = [models.Index(F("state"), F("name"), name="aggdef_state")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("aggregate", args=[self.name])

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Check and store the definition, and update its schedule.

        Raise `DefinitionError` and `TaskRefusedError` as `check_fields` does, and `DefinitionError` if the name is
        taken or was changed. The task need not exist yet, only its module must be allowed.
        """
        fields = kwargs.get("update_fields")
        if fields is None:
            self._check_name()
            self.check_fields()
        with transaction.atomic():
            super().save(*args, **kwargs)  # a receiver of `post_save` updates the schedule

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the definition with its runs, schedule, position and outputs.

        Raise `DefinitionError` if other aggregates read it, `LeaseHeldError` if a run does not end.
        """
        counts = AggDef.objects.filter(pk=self.pk).delete()
        self.pk = None
        return counts

    def _check_name(self) -> None:
        if AggDef.objects.filter(name=str(self.name)).exclude(pk=self.pk).exists():
            raise DefinitionError(
                f"name {self.name!r} is taken by another aggregate: choose another one, or change that one", "name"
            )
        stored = AggDef.objects.filter(pk=self.pk).values_list("name", flat=True).first() if self.pk else None
        if stored not in (None, self.name):
            raise DefinitionError(
                f"name {self.name!r}: the aggregate is named {stored!r}, which cannot be changed; make a copy", "name"
            )

    def check_fields(self) -> None:
        """Raise `DefinitionError` for the first field whose value is not allowed, `TaskRefusedError` for the task."""
        from aggregates.task_code.registry import allowed_module
        from aggregates.task_modules import task_modules

        check_plain({name: getattr(self, name) for name in (*TEXTS, *SWITCHES, "interval_s", "settle_s")})
        if self.zql:
            raise DefinitionError("zql: this version has no ZQL yet; write a task and name it in task_name", "zql")
        if not self.task_name:
            raise DefinitionError(
                "task_name is empty: name a task class, such as aggregates.agg_tasks.CommitsByDay", "task_name"
            )
        for name in ("params", "filter"):
            rules.check_size(getattr(self, name), name)
        definition = self.definition()
        if definition.kind == "collection":
            for name in definition.inputs:
                check_collection(name, settings.ZARKOV.mongo_database)
        if self.on_error and self.on_error not in rules.ON_ERROR:
            raise DefinitionError(f"on_error must be {' or '.join(rules.ON_ERROR)}, not {self.on_error!r}", "on_error")
        if self.interval_s is not None and self.crontab:
            raise DefinitionError("interval_s and crontab exclude each other: give one of them", "crontab")
        if self.crontab:
            try:
                split_crontab(self.crontab)
            except ValueError as error:
                raise DefinitionError(str(error), "crontab") from None
        check_zone(self.crontab_zone)
        allowed_module(self.task_name, task_modules())
        check_lineage(self.lineage_node(), AggDef.objects.exclude(pk=self.pk).possible_owners)

    def lineage_node(self) -> DefinitionNode:
        output = rules.output_name(self.output or self.name)
        return DefinitionNode(self.name, output, tuple(self.outputs), tuple(self.inputs))

    def reads(self, other: AggDef) -> bool:
        """Return True if an output of `other` is an input of this definition."""
        return any(other.lineage_node().fills(output) for output in read_aggregates(self.inputs))

    def clean(self) -> None:
        """Check the fields for a form, with each message at its field. Here the task must exist."""
        from aggregates.task_code.registry import resolve
        from aggregates.task_modules import task_modules

        try:
            self.check_fields()
        except DefinitionError as error:
            raise ValidationError({error.field or "name": str(error)}) from None
        except AggregateError as error:
            raise ValidationError({"task_name": str(error)}) from None
        try:
            resolve(self.task_name, task_modules())
        except AggregateError as error:
            raise ValidationError({"task_name": str(error)}) from None

    def definition(self) -> Definition:
        """Return the plain value that runs use. Raise `DefinitionError`."""
        name = rules.check_name(self.name)
        return Definition(
            name=name,
            task_name=self.task_name,
            output=rules.output_name(self.output or name),
            params=rules.check_params(self.params),
            inputs=rules.check_inputs(self.inputs),
            filter=rules.check_filter(self.filter),
            id_key=self.id_key,
            settle_s=self.settle_s,
            on_error=self.on_error,
            realtime=self.realtime,
        )

    @property
    def zone(self) -> str:
        return self.crontab_zone or settings.ZARKOV.time_zone

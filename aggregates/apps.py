"""Configure the Django app: signals, system checks and periodic Celery tasks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning, register
from django.db import transaction
from django.db.models.signals import post_delete, post_migrate, post_save

PERIODIC = (("aggregates: put back lost runs", "aggregates.schedule.sweep", 15),)  # name, Celery task, seconds
FORMER = ("aggregates.schedule.alert",)  # Celery tasks that no longer exist


class AggregatesConfig(AppConfig):
    """Connect the app, and make task modules beside `manage.py` and in the current folder importable."""

    name = "aggregates"
    verbose_name = "Aggregates"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from aggregates.models.aggdef import aggdefs_deleting
        from aggregates.task_code.registry import make_importable

        make_importable([Path(__file__).resolve().parent.parent, Path.cwd()])
        post_migrate.connect(_schedule_chores, sender=self)
        post_migrate.connect(_make_groups, sender=self)
        register(check_task_modules, "aggregates")
        aggdef = self.get_model("AggDef")
        post_save.connect(_sync_schedule, sender=aggdef)
        aggdefs_deleting.connect(_clear)
        post_delete.connect(_clear_leftovers, sender=aggdef)


def _schedule_chores(**_: Any) -> None:
    """Create the periodic tasks of Celery beat; a schedule that a person changed stays."""
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    PeriodicTask.objects.filter(task__in=FORMER).delete()
    for name, task, seconds in PERIODIC:
        every = {"every": seconds, "period": IntervalSchedule.SECONDS}
        interval = IntervalSchedule.objects.filter(**every).first() or IntervalSchedule.objects.create(**every)
        wanted = {"task": task, "interval": interval, "expire_seconds": seconds}  # overdue ones would only pile up
        made, _ = PeriodicTask.objects.get_or_create(name=name, defaults=wanted)
        if made.expires is None and made.expire_seconds is None:
            PeriodicTask.objects.filter(pk=made.pk).update(expire_seconds=seconds)


def _make_groups(**rest: Any) -> None:
    from aggregates.web.auth.roles import ensure_groups

    ensure_groups(**rest)


def check_task_modules(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """Return a warning for `manage.py check` for each task module that fails to import."""
    from aggregates.task_code.registry import discover
    from aggregates.task_modules import task_modules

    return [
        Warning(f"task module {report.name} fails to import: {report.error}", id="aggregates.W001")
        for report in discover(task_modules())
        if report.error
    ]


def _sync_schedule(instance: Any, raw: bool, update_fields: Any, **_: Any) -> None:
    from aggregates.services.beat_schedule import sync_schedule

    if not raw:
        sync_schedule(instance, update_fields)


def _clear(aggdefs: Any, **_: Any) -> None:
    from aggregates.services.define import clear

    clear(*aggdefs)


def _clear_leftovers(instance: Any, **_: Any) -> None:
    from aggregates.services.define import clear_leftovers

    transaction.on_commit(partial(clear_leftovers, instance))

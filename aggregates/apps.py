"""The Django app of aggregates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate

PERIODIC = (("aggregates: put back lost runs", "aggregates.schedule.sweep", 15),)  # name, Celery task, seconds
FORMER = ("aggregates.schedule.alert",)  # Celery tasks that there are no more


class AggregatesConfig(AppConfig):
    """Makes task modules beside `manage.py` and in the current folder importable in every process."""

    name = "aggregates"
    verbose_name = "Aggregates"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from aggregates import checks  # noqa: F401 - registers itself
        from aggregates.registry import make_importable

        make_importable([Path(__file__).resolve().parent.parent, Path.cwd()])
        post_migrate.connect(_schedule_chores, sender=self)
        post_migrate.connect(_make_groups, sender=self)


def _schedule_chores(**_: Any) -> None:
    """Have Celery beat start what is to be done regularly; a schedule that a person changed stays."""
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    PeriodicTask.objects.filter(task__in=FORMER).delete()
    for name, task, seconds in PERIODIC:
        every = {"every": seconds, "period": IntervalSchedule.SECONDS}
        interval = IntervalSchedule.objects.filter(**every).first() or IntervalSchedule.objects.create(**every)
        wanted = {"task": task, "interval": interval, "expire_seconds": seconds}  # late ones would only pile up
        made, _ = PeriodicTask.objects.get_or_create(name=name, defaults=wanted)
        if made.expires is None and made.expire_seconds is None:
            PeriodicTask.objects.filter(pk=made.pk).update(expire_seconds=seconds)


def _make_groups(**rest: Any) -> None:
    """Have the groups viewer, operator and editor."""
    from aggregates.web.roles import ensure_groups

    ensure_groups(**rest)

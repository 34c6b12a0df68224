"""Keep django-celery-beat's periodic task of each scheduled aggregate in sync with its definition."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from aggregates.models.crontab import split_crontab

if TYPE_CHECKING:
    from aggregates.models import AggDef

SCHEDULE_FIELDS = frozenset({"name", "enabled", "realtime", "interval_s", "crontab", "crontab_zone"})
PREFIX = "aggregate: "
TASK = "aggregates.schedule.run_scheduled"


def sync_schedule(aggdef: AggDef, saved: Collection[str] | None) -> None:
    """Create, change or delete the periodic task after a save of some fields (None = all), if it is out of date."""
    from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

    if saved is not None and not SCHEDULE_FIELDS & set(saved):
        return
    name = PREFIX + aggdef.name
    if not aggdef.enabled or aggdef.realtime or (aggdef.interval_s is None and not aggdef.crontab):
        drop_schedule(aggdef)
        return
    wanted: dict[str, object] = {
        "task": TASK,
        "args": json.dumps([aggdef.name]),
        "interval": None,
        "crontab": None,
        "enabled": True,
        "description": f"Runs the aggregate {aggdef.name}; change it there.",
    }
    if aggdef.interval_s is not None:
        wanted["interval"] = _shared(IntervalSchedule, every=aggdef.interval_s, period=IntervalSchedule.SECONDS)
    else:
        wanted["crontab"] = _shared(CrontabSchedule, **split_crontab(aggdef.crontab), timezone=aggdef.zone)
    task = PeriodicTask.objects.filter(name=name).first()
    if task is None:
        PeriodicTask.objects.create(name=name, **wanted)
    elif any(getattr(task, field) != value for field, value in wanted.items()):
        for field, value in wanted.items():
            setattr(task, field, value)
        task.save()


def _shared(schedule: Any, **fields: Any) -> Any:
    """Return the first schedule with these values, created if there is none; many periodic tasks can use it."""
    return schedule.objects.filter(**fields).first() or schedule.objects.create(**fields)


def drop_schedule(aggdef: AggDef) -> None:
    """Delete the periodic task of one aggregate, if it has one."""
    from django_celery_beat.models import PeriodicTask

    PeriodicTask.objects.filter(name=PREFIX + aggdef.name).delete()

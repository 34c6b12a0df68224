"""The forms of Celery's schedules in the admin, which answer some wrong values with 500 and hold a script."""

from __future__ import annotations

from typing import Any

from celery.schedules import ParseException
from django.contrib import admin
from django.core.validators import MaxLengthValidator
from django.http import HttpResponse
from django_celery_beat.admin import CrontabScheduleAdmin, PeriodicTaskAdmin, PeriodicTaskForm
from django_celery_beat.models import CrontabSchedule, PeriodicTask

admin.site.unregister([PeriodicTask, CrontabSchedule])


MOST_TEXT_CHARS = 10_000


class CheckedTaskForm(PeriodicTaskForm):
    """Celery's form, which needs a name of a task also where that was refused, and bounds no arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.fields.keys() & {"args", "kwargs", "headers", "description"}:
            self.fields[name].validators.append(MaxLengthValidator(MOST_TEXT_CHARS))

    def clean(self) -> dict[str, Any]:
        """Return the cleaned data."""
        self.cleaned_data.setdefault("task", self.data.get("task"))
        cleaned: dict[str, Any] = super().clean()
        return cleaned


@admin.register(PeriodicTask)
class CheckedTaskAdmin(PeriodicTaskAdmin):
    """Celery's pages of periodic tasks, without the script in its template, which our policy blocks.

    It would show the words for a crontab once that is chosen, and needs those for all. Here they stand below the
    crontab of a task that is saved.
    """

    form = CheckedTaskForm
    change_form_template = None

    def changeform_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        """Return the form as Django makes it."""
        return admin.ModelAdmin.changeform_view(self, *args, **kwargs)


@admin.register(CrontabSchedule)
class CheckedCrontabAdmin(CrontabScheduleAdmin):
    """Celery's pages of crontabs."""

    @admin.display(description="human readable")
    def human_readable(self, crontab: CrontabSchedule) -> str:
        """Return the crontab in words, also for the form that shows what is wrong with it."""
        try:
            return str(crontab.human_readable)
        except ParseException as error:
            return str(error)
